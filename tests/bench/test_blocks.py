"""Blocks: every cell in one of them, whatever the number of workers; handed out so that nobody waits long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench.blocks import LOADING_S, Block, HandOut, cut, simulate
from specbench_s2d.bench.plan import Plan
from tests.tiny_run import tiny_plan


@pytest.fixture(scope="module")
def plan(tiny_models: Path) -> Plan:
    models: dict[str, Any] = {"target": ["tiny-target", "tiny-deep"], "draft": []}
    grid = {"suite": ["qa", "mt_bench"], "limit": 4, "repeats": 2, "max_new_tokens": 4}
    return tiny_plan(tiny_models, ["ar", "lookup"], **models, **grid)


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_every_cell_is_in_one_block(plan: Plan, workers: int) -> None:
    blocks = cut(plan, dict.fromkeys(plan.targets, 1.0), workers)
    keys = [cell.key for block in blocks for cell in block.cells(plan)]
    assert len(keys) == len(set(keys)) and set(keys) == plan.keys
    assert all(len(block.places) >= 1 for block in blocks)


def test_a_block_is_at_most_an_eighth_of_a_workers_share_or_one_question(plan: Plan) -> None:
    small, large = plan.targets
    blocks = cut(plan, {small: 8.0, large: 24.0}, 1)  # a share of 32, so blocks of at most 4
    assert [block.work for block in blocks if block.target == small] == [4.0, 4.0]
    assert [block.work for block in blocks if block.target == large] == [3.0] * 8  # one question each
    assert [block.places for block in blocks if block.target == small] == [range(4), range(4, 8)]


def test_what_is_done_is_cut_no_more(plan: Plan) -> None:
    first, second = plan.targets
    places = [0, 2, 3, 7]
    done = {cell.key for place in places for cell in Block(first, range(place, place + 1), 0.0).cells(plan)}
    blocks = cut(plan, {first: 8.0, second: 8.0}, 1, done)
    left = {cell.key for block in blocks for cell in block.cells(plan)} - done
    assert left == plan.keys - done
    assert sum(block.work for block in blocks if block.target == first) == 4.0
    assert cut(plan, {first: 1.0, second: 1.0}, 1, plan.keys) == []


def blocks_of(**counts: int) -> list[Block]:
    return [Block(target, range(i, i + 1), 1.0) for target, count in counts.items() for i in range(count)]


def test_the_largest_target_goes_first_and_a_worker_keeps_its_target() -> None:
    hand_out = HandOut(blocks_of(small=2, large=6))
    given = [hand_out.next(worker) for worker in (0, 1, 0, 1, 0, 1)]
    assert [block.target for block in given if block] == ["large"] * 6
    assert (block := hand_out.next(0)) and block.target == "small"
    assert len(hand_out) == 1


def test_nobody_loads_a_target_whose_last_block_its_holder_is_about_to_take() -> None:
    hand_out = HandOut(blocks_of(one=2))
    assert hand_out.next(0) is not None
    assert hand_out.next(1) is None
    hand_out.leave(0)  # its holder died
    assert hand_out.next(1) is not None


def test_a_block_that_was_not_finished_comes_back_first() -> None:
    hand_out = HandOut(blocks_of(one=3))
    first = hand_out.next(0)
    assert first and first.places == range(1)
    hand_out.put_back(first)
    assert hand_out.next(0) == first


def test_the_simulation_adds_up() -> None:
    weights = {"large": 0, "small": 10**9}  # a second more to load
    expected = simulate(blocks_of(large=4, small=2), 2, weights)
    # one begins with large and stays, one with small: what it leaves of large is no block more than its holder takes
    assert expected.busy_s == [LOADING_S + 4, LOADING_S + 1 + 2] and expected.loaded == [["large"], ["small"]]
    assert expected.seconds == LOADING_S + 4
    assert expected.idle_share == pytest.approx(1 - sum(expected.busy_s) / (2 * expected.seconds))
    assert simulate([], 2, {}).idle_share == 0.0
