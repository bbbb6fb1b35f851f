"""Optimal stopping against the same recursion in plain Python, and what it must say in simple cases."""

from __future__ import annotations

import random

import pytest

from specbench_s2d.decoding.calibration import Calibration
from specbench_s2d.decoding.costs import OnlineCosts
from specbench_s2d.decoding.stopping_value import StoppingValue

LONGEST = 5


def learnt(seed: int) -> Calibration:
    coin, calibration = random.Random(seed), Calibration(2)
    for _ in range(400):
        position, confidence = coin.randint(1, 4), coin.random() ** coin.choice((1, 3))
        calibration.observe_confidence(position, confidence)
        calibration.observe(0, position, confidence, coin.random() < confidence)
    return calibration


def costs(read: float = 0.1, wider: float = 0.02) -> OnlineCosts:
    return OnlineCosts([1.0 + wider * width for width in range(LONGEST + 1)], [2 * read, 1.0], [read, 1.0], [0.0, 0.0])


def by_hand(rate: float, known: OnlineCosts, calibration: Calibration, position: int, alive: float) -> float:
    """W_j(a) by the definition, without a grid."""
    if position > LONGEST:
        return 0.0
    accept_C, share_C = calibration.forecast(position)
    worth = -rate * known.stage(0, 1, cold=position == 1)
    wider = rate * (known.verify(position + 1) - known.verify(position))
    for accept, share in zip(accept_C, share_C, strict=True):
        now = alive * float(accept)
        worth += float(share) * max(0.0, now - wider + by_hand(rate, known, calibration, position + 1, now))
    return max(0.0, worth)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("read", [0.02, 0.1, 0.4])
def test_the_worth_of_reading_is_that_of_the_recursion(seed: int, read: float) -> None:
    known, calibration = costs(read), learnt(seed)
    worth = StoppingValue(1.2, known, calibration, LONGEST)
    for position, alive in ((1, 1.0), (3, 0.9), (3, 0.5), (4, 0.2), (5, 0.3)):
        expected = by_hand(1.2, known, calibration, position, alive)
        assert worth.of_reading(position, alive) == pytest.approx(expected, abs=0.02)


def test_reading_for_nothing_is_worth_it_and_for_a_whole_pass_it_is_not() -> None:
    calibration = learnt(0)
    assert StoppingValue(1.0, costs(read=0.0, wider=0.0), calibration, LONGEST).of_reading(1, 1.0) > 0.5
    assert StoppingValue(1.0, costs(read=1.0), calibration, LONGEST).of_reading(1, 1.0) == 0.0


def test_the_likelier_a_draft_is_dead_the_less_reading_on_is_worth() -> None:
    worth = StoppingValue(1.0, costs(), learnt(1), LONGEST)
    falling = [worth.of_reading(2, alive) for alive in (1.0, 0.7, 0.4, 0.2, 0.1, 0.01, 0.0)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0.0


def test_a_token_that_will_be_rejected_is_dropped() -> None:
    worth = StoppingValue(1.0, costs(wider=0.1), learnt(1), LONGEST)
    assert worth.of_proposing(1, 1.0, 0.01) < 0.0 < worth.of_proposing(1, 1.0, 0.9)


def test_beyond_the_longest_draft_nothing_is_worth_reading() -> None:
    assert StoppingValue(1.0, costs(read=0.0), learnt(2), LONGEST).of_reading(LONGEST + 1, 1.0) == 0.0
    assert StoppingValue(1.0, costs(read=0.0), learnt(2), LONGEST).of_reading(LONGEST + 9, 1.0) == 0.0
