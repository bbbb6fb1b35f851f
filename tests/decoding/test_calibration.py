"""Confidence to acceptance: the start-up state, what is learnt, and how it fades."""

from __future__ import annotations

import pytest

from specbench_s2d.decoding.calibration import MEMORY, PRIOR_WEIGHT, Calibration, Share, confidence_bin


def test_at_the_start_confidence_is_taken_at_its_word() -> None:
    fresh = Calibration(3)
    assert fresh.acceptance(0, 1, 0.35) == pytest.approx(0.35)
    assert fresh.gain(0, 0.35) == Calibration.HOPE_DEEPER
    assert fresh.next(1, 0) == Calibration.HOPE_NEXT


def test_acceptance_is_learnt_by_exit_position_and_confidence() -> None:
    learnt = Calibration(2)
    for _ in range(200):
        learnt.saw(0, 1, 0.35, accepted=True)
        learnt.saw(0, 2, 0.35, accepted=False)
    assert learnt.acceptance(0, 1, 0.38) > 0.9
    assert learnt.acceptance(0, 2, 0.38) < 0.1
    assert 0.4 < learnt.acceptance(0, 3, 0.38) < 0.6  # a position not seen yet: what the others say
    assert learnt.acceptance(1, 1, 0.38) == pytest.approx(0.38)
    assert learnt.acceptance(0, 1, 0.88) == pytest.approx(0.88)


def test_the_gain_of_going_deeper_is_learnt_both_ways() -> None:
    learnt = Calibration(2)
    for _ in range(100):
        learnt.saw_deeper(0, 0.2, shallow=False, deep=True)
        learnt.saw_deeper(0, 0.9, shallow=True, deep=False)
    assert learnt.gain(0, 0.25) > 0.9
    assert learnt.gain(0, 0.95) < -0.8


def test_tokens_not_read_yet_are_judged_by_what_came_before() -> None:
    learnt = Calibration(1)
    for _ in range(100):
        learnt.saw_next(1, 0, accepted=False)
        learnt.saw_next(1, 3, accepted=True)
    assert learnt.next(1, 0) < 0.1 < 0.9 < learnt.next(1, 3)
    assert 0.4 < learnt.next(1, 1) < 0.6  # not seen: the position's own average
    assert learnt.next(5, 1) == learnt.next(3, 1)  # later positions are one


def test_old_observations_fade() -> None:
    share = Share()
    for _ in range(int(MEMORY) * 3):
        share.add(0)
    for _ in range(int(MEMORY)):
        share.add(1)
    assert share.mean(0.5) > 0.6
    assert share.seen <= MEMORY + PRIOR_WEIGHT


def test_every_confidence_has_a_bin() -> None:
    assert [confidence_bin(c) for c in (0.0, 0.0999, 0.1, 0.95, 1.0)] == [0, 0, 1, 9, 9]


def test_facts_hold_what_was_seen() -> None:
    learnt = Calibration(2)
    learnt.saw(1, 2, 0.72, accepted=True)
    assert learnt.facts() == [{"exit": 1, "position": 2, "confidence_from": 0.7, "seen": 1, "accepted": 1}]
