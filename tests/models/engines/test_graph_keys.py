"""How passes are rounded up to the sizes that graphs are captured for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from specbench_s2d.models.base import PassKind
from specbench_s2d.models.engines.base import Request
from specbench_s2d.models.engines.graph_keys import (
    MOST_ROWS,
    ROWS,
    GraphKey,
    GraphKind,
    buckets,
    declared_rows,
    fits,
    key_of,
    keys_of,
    round_up,
)


def request_of(rows: int, start: int = 5, mask_columns: int | None = None, hidden: bool = False) -> Request:
    inputs = torch.zeros(rows, 8) if hidden else torch.zeros(rows, dtype=torch.long)
    mask = None if mask_columns is None else torch.ones(rows, mask_columns, dtype=torch.bool)
    return Request(inputs, start, 1 if hidden else 0, 3, head=True, mask=mask)


def test_buckets_are_powers_of_two_and_from_512_on_halfway_between_up_to_the_capacity() -> None:
    assert buckets(1088) == (128, 256, 512, 768, 1024, 1088)
    assert buckets(4096) == (128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096)
    assert buckets(512) == (128, 256, 512)
    assert buckets(128) == (128,)
    assert buckets(70) == (70,)


@pytest.mark.parametrize(("end", "bucket"), [(1, 128), (128, 128), (129, 256), (200, 256), (512, 512)])
def test_a_pass_attends_to_the_smallest_bucket_that_holds_its_end(end: int, bucket: int) -> None:
    assert round_up(end, buckets(512)) == bucket


def test_rows_of_short_drafts_are_exact_and_wide_ones_at_most_doubled() -> None:
    assert ROWS[:8] == tuple(range(1, 9))
    for wanted in range(1, MOST_ROWS + 1):
        assert wanted <= round_up(wanted, ROWS) < 2 * max(wanted, 8)


@pytest.mark.parametrize(
    ("request_", "graph"),
    [
        (request_of(1, start=0), False),
        (request_of(6), True),
        (request_of(MOST_ROWS), True),
        (request_of(MOST_ROWS + 1), False),
        (request_of(6, start=0), False),
        (request_of(8, mask_columns=512), True),
        (request_of(8, mask_columns=513), False),
        (replace(request_of(4), best=64, rows=4), True),
        (replace(request_of(4), best=65, rows=4), False),
        (Request(torch.zeros(3, 8), 0, 3, 3, head=True), True),
    ],
    ids=[
        "a prompt of one token",
        "verify",
        "widest",
        "too wide",
        "a prompt",
        "masked",
        "mask too wide",
        "some of the best",
        "too many of them",
        "the head alone",
    ],
)
def test_what_repeats_is_captured_and_prompts_are_not(request_: Request, graph: bool) -> None:
    assert fits(request_) is graph


def test_a_kind_is_the_same_for_all_rows_and_positions() -> None:
    assert GraphKind.of(request_of(6, start=7)) == GraphKind.of(request_of(2, start=900))
    assert GraphKind.of(request_of(6, mask_columns=6)) == GraphKind.of(request_of(9, mask_columns=40))
    assert GraphKind.of(request_of(6, mask_columns=6)) != GraphKind.of(request_of(6))
    assert GraphKind.of(request_of(6, hidden=True)) != GraphKind.of(request_of(6))


@pytest.mark.parametrize(
    ("asked", "request_"),
    [
        (PassKind(6), request_of(6)),
        (PassKind(6, seen=70), request_of(6, mask_columns=65)),
        (PassKind(6, from_layer=1), request_of(6, hidden=True)),
        (PassKind(2, to_layer=2), replace(request_of(2), head=False, to_layer=2)),
        (PassKind(2, to_layer=2, best=4), replace(request_of(2), head=False, to_layer=2, best=4, rows=1)),
        (PassKind(2, best=4), replace(request_of(2), best=4, rows=1)),
        (PassKind(2, from_layer=3), Request(torch.zeros(2, 8), 0, 3, 3, head=True)),
    ],
    ids=["chain", "tree", "upper layers", "lower layers", "an exit read", "the best", "the head"],
)
def test_a_declared_pass_has_the_kind_of_its_requests(asked: PassKind, request_: Request) -> None:
    declared = declared_rows([asked], 3)
    (kind,) = declared
    own = GraphKind.of(request_)
    assert kind == replace(own, mask_columns=128 if asked.seen > 64 else 0)
    assert declared[kind] == set(range(1, asked.rows + 1))
    key = key_of(request_, GraphKind.of(request_), (128, 192))
    assert key == GraphKey(GraphKind.of(request_), request_.new, 128 if GraphKind.of(request_).layers else 0)
    assert key in keys_of(key.kind, declared[kind], (128, 192))


def test_several_declarations_of_a_kind_are_its_widest() -> None:
    kinds = declared_rows([PassKind(3), PassKind(9), PassKind(2), PassKind(90, best=2), PassKind(5, best=65)], 3)
    assert list(kinds.values()) == [{1, 2, 3, 4, 5, 6, 7, 8, 16}, set(ROWS)]


def test_rows_below_the_least_are_not_captured() -> None:
    (chain,) = declared_rows([PassKind(6, least=6)], 3).values()
    (tree,) = declared_rows([PassKind(17, seen=17, least=5)], 3).values()
    assert (chain, tree) == ({6}, {5, 6, 7, 8, 16, 32})


def test_the_longest_cache_comes_first() -> None:
    """Its graph works in the most memory, in which the others find room."""
    shapes = keys_of(GraphKind(False, 0, 3, False, True), {1, 2}, (128, 192))
    assert [(shape.rows, shape.bucket) for shape in shapes] == [(1, 192), (1, 128), (2, 192), (2, 128)]
