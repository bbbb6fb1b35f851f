"""Projections worked out by hand.

AR takes 10. A target pass over w positions takes 10 + w. Read at exit 0 a first token takes 4 and a later one 2; at
exit 1, twice that.
"""

from __future__ import annotations

import numpy as np
import pytest

from specbench_s2d.analysis.projection.model import Costs, Turn, at_rate, cumulative, from_turns
from tests.analysis.expected import ends, ends_of_three_copies

ROUND = Costs(
    ar_N=np.array([10.0]),
    verify_WN=np.array([[11.0], [12.0], [13.0]]),
    first_EN=np.array([[4.0], [8.0]]),
    next_EN=np.array([[2.0], [4.0]]),
)
# Steps of 2 drafts: both accepted, one, none. Exits of the six tokens: 0 0, 1 0, 1 1.
TURN = Turn(("qa", 1), (2, 2, 2), (2, 1, 0), (0, 0, 1, 0, 1, 1))


def test_recorded_steps_at_these_costs() -> None:
    found = from_turns([TURN], ROUND)
    # 6 tokens; 3 passes over 3 positions: 39; first tokens 4 + 8 + 8, later ones 2 + 2 + 4.
    assert found.speedup == pytest.approx(6 * 10 / (39 + 20 + 8))
    assert (found.mat, found.verify_ratio) == (2.0, pytest.approx(1.3))
    assert found.cost_ratio == pytest.approx(28 / 6 / 10)
    assert found.low is None and found.note == "n = 1: no interval from fewer than 5 questions"
    assert not found.extrapolated


def test_below_the_recorded_gamma_a_step_accepts_the_same_cut_at_it() -> None:
    found = from_turns([TURN], ROUND, gamma=1)
    # Accepted 1, 1, 0; 3 passes over 2 positions: 36; first tokens alone: 20.
    assert found.speedup == pytest.approx(5 * 10 / (36 + 20))
    assert from_turns([TURN], ROUND, gamma=2) == from_turns([TURN], ROUND)


def test_above_it_whole_steps_go_on_at_the_rate_of_all_tokens() -> None:
    found = from_turns([TURN], ROUND, gamma=3)
    # Judged: 2 + 2 + 1 tokens, of which 3 accepted: rate 0.6. One step of three accepted all and goes on by 0.6.
    # A pass over 4 positions takes 14; a first token 20/3, each of the two later ones 8/3.
    assert found.mat == pytest.approx((6 + 0.6) / 3)
    assert found.speedup == pytest.approx(6.6 / 3 * 10 / (14 + 20 / 3 + 2 * 8 / 3))
    assert found.extrapolated


def test_one_rate_and_equal_shares() -> None:
    found = at_rate(0.5, 2, [0.5, 0.5], ROUND)
    assert found.mat == 1.75
    assert found.speedup == pytest.approx(1.75 * 10 / (13 + 6 + 3))


def test_the_interval_is_over_questions_and_the_quartiles_are_over_rounds() -> None:
    """Three turns like `TURN`, and three of one step that accepts both drafts at exit 0: none leaves by exit 1."""
    turns = [
        Turn(("qa", i), *parts)
        for i in range(0, 6, 2)
        for i, parts in ((i, (TURN.drafted, TURN.accepted, TURN.stages)), (i + 1, ((2,), (2,), (0, 0))))
    ]
    rounds = Costs(*(np.hstack([part, part * factor]) for part, factor in zip(
        (ROUND.ar_N, ROUND.verify_WN, ROUND.first_EN, ROUND.next_EN), (2.0, 1.0, 1.0, 1.0), strict=True
    )))  # fmt: skip
    found = from_turns(turns, rounds)
    # At the median AR pass, 15: 6 tokens in 67 and 3 in 19; questions weigh by their tokens.
    low, high = ends_of_three_copies(27 * 15 / 258, 21 * 15 / 191, 24 * 15 / 239, (6, 3))
    assert (found.low, found.high, found.questions) == (pytest.approx(low), pytest.approx(high), 6)
    one_round = 9 * 10 / (67 + 19)
    assert (found.costs_low, found.costs_high) == (pytest.approx(1.25 * one_round), pytest.approx(1.75 * one_round))


def test_where_no_token_leaves_by_the_last_exit_the_interval_is_as_wide_as_elsewhere() -> None:
    """Of one step each, two drafts accepted, one or none, all at exit 0: questions weigh by their tokens, not exits."""
    turns = [Turn(("qa", i), (2,), (i % 3,), (0, 0)) for i in range(6)]
    for gamma, weights in ((None, (1, 2, 3)), (3, (1, 1, 1))):
        found = from_turns(turns, ROUND, gamma)
        without = [from_turns([t for t in turns if t is not left], ROUND, gamma).speedup for left in turns]
        expected = ends(found.speedup, without, weights * 2)
        assert (found.low, found.high) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_wider_passes_than_measured_go_on_by_the_mean_rise() -> None:
    assert ROUND.widened(5).verify_WN[:, 0].tolist() == [11, 12, 13, 14, 15]
    assert ROUND.widened(2) is ROUND


def test_an_exit_costs_all_stages_down_to_it() -> None:
    assert cumulative([[1, 2], [3, 4]]).tolist() == [[1, 2], [4, 6]]
