"""Pass costs: measured on a clock that only models move, then kept true."""

from __future__ import annotations

import pytest

from specbench_s2d.decoding.costs import OnlineCosts, measure_costs
from specbench_s2d.models.nested import NestedDraft
from tests.fakes import Clock, FakeModel


def test_what_is_measured_is_what_a_step_pays() -> None:
    clock = Clock()
    target = FakeModel(clock=clock, layer_s=8.0)
    draft = FakeModel(exits=(2, 3), clock=clock, layer_s=0.5)
    measured = measure_costs(target, NestedDraft(draft), [1, 2, 3], widest=4, now=clock)
    assert measured.verify_s == [8.0] * 4
    assert (measured.cold_s, measured.warm_s, measured.more_s) == ([1.0, 0.5], [1.0, 0.5], [0.0, 0.0])
    assert (target.length, draft.length) == (0, 0)


def made() -> OnlineCosts:
    return OnlineCosts([10.0, 11.0, 12.0], cold_s=[2.0, 1.0], warm_s=[1.0, 0.5], more_s=[0.25, 0.1])


def test_a_cost_is_looked_up_by_width_and_by_stage() -> None:
    known = made()
    assert [known.verify(width) for width in (1, 3, 9)] == [10.0, 12.0, 12.0]
    assert known.stage(0, 3, cold=True) == 2.5
    assert known.stage(1, 1, cold=False) == 0.5


def test_a_machine_twice_as_slow_leaves_the_costs_beside_each_other_as_they_were() -> None:
    known = made()
    for _ in range(200):
        known.observe_verify(2, 22.0)
        known.observe_stage(0, 1, cold=True, seconds=4.0)
    assert known.level == pytest.approx(2.0, rel=0.08)
    assert known.verify(1) == pytest.approx(10.0)  # never seen slow, and yet not taken for cheap
    assert known.verify(2) == pytest.approx(11.0, rel=0.08)
    assert known.stage(0, 1, cold=True) == pytest.approx(2.0, rel=0.08)
    assert known.facts()["verify_s"][1] == pytest.approx(22.0, rel=0.05)


def test_a_cost_that_was_wrong_moves_to_what_is_seen() -> None:
    known = made()
    for _ in range(600):
        known.observe_verify(1, 10.0)
        known.observe_verify(2, 16.0)
        known.observe_stage(0, 3, cold=False, seconds=3.5)
    assert known.verify(2) / known.verify(1) == pytest.approx(1.6, rel=0.05)
    assert known.stage(0, 3, cold=False) / known.verify(1) == pytest.approx(0.35, rel=0.05)


def test_an_outlier_counts_as_three_times_what_was_expected() -> None:
    known, other = made(), made()
    known.observe_verify(1, 10_000.0)
    other.observe_verify(1, 30.0)
    assert known.facts() == other.facts()
