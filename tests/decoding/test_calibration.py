"""Confidence to acceptance: the start-up state, what is learnt, and how it fades."""

from __future__ import annotations

import pytest

from specbench_s2d.decoding.calibration import (
    BINS,
    MEMORY,
    OPTIMISM_DEEPER,
    OPTIMISM_UNREAD,
    PRIOR_WEIGHT,
    Calibration,
    FadingRate,
    confidence_bin,
)


def test_at_the_start_confidence_is_taken_at_its_word() -> None:
    fresh = Calibration(3)
    assert fresh.acceptance(0, 1, 0.35) == pytest.approx(0.35)
    assert fresh.gain(0, 0.35) == OPTIMISM_DEEPER
    accept_C, share_C = fresh.forecast(1)
    assert accept_C == pytest.approx([min(1.0, OPTIMISM_UNREAD * (at + 0.5) / BINS) for at in range(BINS)])
    assert share_C == pytest.approx([1 / BINS] * BINS)


def test_acceptance_is_learnt_by_exit_position_and_confidence() -> None:
    learnt = Calibration(2)
    for _ in range(200):
        learnt.observe(0, 1, 0.35, accepted=True)
        learnt.observe(0, 2, 0.35, accepted=False)
    assert learnt.acceptance(0, 1, 0.38) > 0.9
    assert learnt.acceptance(0, 2, 0.38) < 0.1
    assert 0.4 < learnt.acceptance(0, 3, 0.38) < 0.6  # a position not seen yet: what the others say
    assert learnt.acceptance(1, 1, 0.38) == pytest.approx(0.38)
    assert learnt.acceptance(0, 1, 0.88) == pytest.approx(0.88)


def test_the_gain_of_going_deeper_is_learnt_both_ways() -> None:
    learnt = Calibration(2)
    for _ in range(100):
        learnt.observe_deeper(0, 0.2, shallow=False, deep=True)
        learnt.observe_deeper(0, 0.9, shallow=True, deep=False)
    assert learnt.gain(0, 0.25) > 0.9
    assert learnt.gain(0, 0.95) < -0.8


def test_the_outlook_on_a_token_not_read_yet_is_what_was_read_at_its_position() -> None:
    learnt = Calibration(2)
    for _ in range(100):
        learnt.observe_confidence(1, 0.95)
        learnt.observe_confidence(2, 0.05)
        learnt.observe(0, 2, 0.05, accepted=True)
    assert learnt.forecast(1)[1][9] > 0.9
    assert learnt.forecast(2)[1][0] > 0.9
    assert learnt.forecast(2)[0][0] > 0.8
    assert learnt.forecast(7)[1] == pytest.approx([1 / BINS] * BINS)  # later positions are one, not seen yet


def test_old_observations_fade() -> None:
    share = FadingRate()
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
    learnt.observe(1, 2, 0.72, accepted=True)
    assert learnt.facts() == [{"exit": 1, "position": 2, "confidence_from": 0.7, "seen": 1, "accepted": 1}]
