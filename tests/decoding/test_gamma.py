"""Draft lengths: a constant, and Spec-Bench's schedule worked by hand."""

from __future__ import annotations

from specbench_s2d.decoding.gamma import ConstantLength, HeuristicLength, draft_length
from specbench_s2d.decoding.spec import build_decoder
from tests.decoding.fixed_output import PROMPT, FixedOutput


def test_a_constant_learns_nothing() -> None:
    schedule = draft_length(3)
    assert isinstance(schedule, ConstantLength)
    for accepted in (0, 3, 1):
        assert schedule.next() == 3
        schedule.learn(accepted, 3)


def test_the_heuristic_starts_at_5_gains_2_loses_1_and_stays_above_0() -> None:
    schedule = draft_length("heuristic")
    assert isinstance(schedule, HeuristicLength)
    lengths = []
    for accepted_all in (True, True, False, False, True, *[False] * 10, True):
        lengths.append(schedule.next())
        schedule.learn(schedule.next() if accepted_all else 0, schedule.next())
    assert lengths == [5, 7, 9, 8, 7, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 1]
    assert schedule.next() == 3


def test_all_but_one_accepted_is_not_all() -> None:
    schedule = HeuristicLength()
    schedule.learn(4, 5)
    assert schedule.next() == 4


def test_the_schedule_starts_anew_at_each_generation() -> None:
    script = [1, 2, 3, 4, 5, 6] * 6
    decoder = build_decoder("sd:gamma=heuristic", FixedOutput(script), FixedOutput(script, seed=1))
    for _ in range(2):
        generation = decoder.generate(PROMPT, max_new_tokens=24)
        # All accepted: 1 + (5 + 1) + (7 + 1) + 9 of the last step's 9 + 1.
        assert [len(step.drafted) for step in generation.steps] == [5, 7, 9]
