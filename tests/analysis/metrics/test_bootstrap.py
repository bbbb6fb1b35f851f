"""Resampling questions: by hand, against an explicit loop, and blocks that change nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from specbench_s2d.analysis.metrics import bootstrap
from specbench_s2d.analysis.metrics.bootstrap import Floats, interval, question_sums


def quotient(sums_GCR: Floats) -> Floats:
    quotients: Floats = sums_GCR[0, 0] / sums_GCR[0, 1]
    return quotients


def sums_of(*rows: tuple[float, float]) -> dict[int, Floats]:
    return {i: np.array(row) for i, row in enumerate(rows)}


def test_sums_are_per_question() -> None:
    sums = question_sums([("a", 1.0), ("b", 2.0), ("a", 3.0)], lambda item: item[0], lambda item: (item[1], 1.0))
    assert {key: row.tolist() for key, row in sums.items()} == {"a": [4.0, 2.0], "b": [2.0, 1.0]}


def test_the_ends_are_those_of_all_resamples() -> None:
    """Three questions have 27 equally likely draws; 20,000 resamples find their quantiles."""
    rows = [(1.0, 1.0), (6.0, 2.0), (20.0, 4.0)]
    every = [
        sum(rows[i][0] for i in draw) / sum(rows[i][1] for i in draw) for draw in itertools.product(range(3), repeat=3)
    ]
    found = interval([sums_of(*rows)], quotient, resamples=20_000, level=0.8)
    assert found.low == pytest.approx(np.quantile(every, 0.1, method="inverted_cdf"))
    assert found.high == pytest.approx(np.quantile(every, 0.9, method="inverted_cdf"))


def test_the_same_as_a_loop_over_the_same_draws() -> None:
    rows = np.random.default_rng(1).uniform(1, 9, size=(11, 2))
    draws = np.random.default_rng(5).integers(11, size=(300, 11))
    values = [rows[draw].sum(axis=0) for draw in draws]
    low, high = np.quantile([n / d for n, d in values], [0.025, 0.975])
    found = interval([sums_of(*map(tuple, rows.tolist()))], quotient, resamples=300, seed=5)  # type: ignore[arg-type]
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [sums_of((1, 1), (6, 2), (20, 4), (3, 3), (2, 8))]
    whole = interval(groups, quotient, resamples=500, seed=2)
    monkeypatch.setattr(bootstrap, "_BLOCK_DRAWS", 60)
    blocks = interval(groups, quotient, resamples=500, seed=2)
    assert (blocks.low, blocks.high) == (pytest.approx(whole.low), pytest.approx(whole.high))


def test_a_question_that_a_group_lacks_adds_nothing_there() -> None:
    def both(sums_GCR: Floats) -> Floats:
        sums: Floats = sums_GCR[:, 0].sum(axis=0)
        return sums

    found = interval([{"a": np.array([1.0]), "b": np.array([1.0])}, {"b": np.array([1.0])}], both)
    assert (found.low, found.high) == (2.0, 4.0)  # a twice: 2; b twice: 4


def test_undefined_resamples_count_for_nothing() -> None:
    found = interval([sums_of((0, 0), (6, 2))], quotient)
    assert (found.low, found.high) == (3.0, 3.0)
    assert interval([sums_of((0, 0), (1, 0))], quotient).note == "no interval: no resample gives a value"


@pytest.mark.parametrize("count", [0, 1])
def test_below_two_questions_there_is_none(count: int) -> None:
    found = interval([sums_of(*[(1.0, 1.0)] * count)], quotient)
    assert (found.low, found.high) == (None, None) and f"from {count} question" in str(found.note)
