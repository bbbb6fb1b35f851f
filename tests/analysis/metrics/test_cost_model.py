"""The cost model on a run worked on paper.

One target, two questions. AR: 4 steps in 8 s and 6 steps in 12 s, so a step takes 2 s.
sd: question 1, two steps drafting 3 and 1 (4 draft passes in 2 s), emitting 3 + 1 in two target passes of 6 s together;
question 2, two steps drafting 3 each (6 draft passes in 4 s), emitting 4 + 2 in two target passes of 4 s together.
c = (6 s / 10 passes) / 2 s = 0.3; a target pass costs (10 s / 4) / 2 s = 1.25 AR steps;
MAT = 10 / 4, draft passes per step = 10 / 4: predicted = 2.5 / (1 + 2.5 x 0.3) = 2.5 / 1.75.
"""

from __future__ import annotations

import pytest

from specbench_s2d.analysis.metrics import cost_model, speed
from specbench_s2d.analysis.metrics.cost_model import COST_RATIO
from specbench_s2d.analysis.metrics.pairs import Pair, pair
from specbench_s2d.runs.record import Record
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import ar, decoded

AR = [ar(1, 5, decode_s=8), ar(2, 7, decode_s=12)]


def sd(slower: float = 1.0) -> list[Record]:
    """The decoder above, its draft passes `slower` times as long."""
    return [
        decoded("sd", 1, [(3, 2, 3), (1, 0, 1)], decode_s=6 + 2 * slower, draft_s=2 * slower, verify_s=6),
        decoded("sd", 2, [(3, 3, 4), (3, 1, 2)], decode_s=4 + 4 * slower, draft_s=4 * slower, verify_s=4),
    ]


def pairs(slower: float = 1.0) -> list[Pair]:
    return pair(sd(slower), AR)


def thrice(slower: float = 1.0) -> list[Pair]:
    """Three copies of both questions."""
    return [
        Pair(*(side.model_copy(update={"question_id": 2 * i + int(side.question_id)}) for side in (p.ours, p.baseline)))
        for i in range(3)
        for p in pairs(slower)
    ]


def test_the_cost_ratio_is_a_draft_pass_over_an_ar_step() -> None:
    assert cost_model.cost_ratio([pairs()]).value == pytest.approx(0.3)


def test_a_target_pass_over_the_proposal_costs_more_than_a_step_of_ar() -> None:
    assert cost_model.verify_ratio([pairs()]).value == pytest.approx(1.25)


def test_the_predicted_speedup_follows_from_acceptance_draft_length_and_cost_ratio() -> None:
    assert cost_model.speedup_predicted([pairs()]).value == pytest.approx(2.5 / 1.75)


def test_what_was_measured_lacks_of_it_what_wide_passes_cost() -> None:
    """20 s of AR for 10 steps; sd takes 16 s for the same 10 tokens: 1.25, where 1.43 was predicted."""
    assert speed.speedup([pairs()]).value == pytest.approx(20 / 16)
    wide = (1 + 2.5 * 0.3) / (1.25 + 2.5 * 0.3)
    assert speed.speedup([pairs()]).value == pytest.approx(2.5 / 1.75 * wide)


def test_a_level_of_a_tree_is_one_draft_pass() -> None:
    tree = decoded("s2d-tree", 1, [(9, 2, 3)], decode_s=4, draft_s=1, verify_s=3, levels_per_step=[2])
    assert cost_model.cost_ratio([pair([tree], AR)]).value == pytest.approx((1 / 2) / 2)


def test_the_interval_comes_from_leaving_questions_out() -> None:
    """Of three copies of both questions, which weigh by AR's passes."""
    interval = COST_RATIO.interval([thrice()])
    # 3 of either: 18 s of 30 passes. Without a first: 16 s of 26. Without a second: 14 s of 24. An AR step takes 2 s.
    expected = ends_of_three_copies(0.3, 16 / 26 / 2, 14 / 24 / 2, (4, 6))
    assert (interval.low, interval.high) == pytest.approx(expected)


def test_a_slower_draft_shows_in_the_ratio_of_two_runs_with_an_interval_that_questions_do_not_widen() -> None:
    interval = COST_RATIO.ratio_interval([thrice(1.3)], [thrice()])
    assert (interval.low, interval.high) == (pytest.approx(1.3), pytest.approx(1.3))


def test_of_several_targets_the_mean() -> None:
    assert cost_model.cost_ratio([pairs(), pairs(3)]).value == pytest.approx((0.3 + 0.9) / 2)


def test_what_drafts_nothing_has_no_cost_ratio() -> None:
    base = [p.baseline for p in thrice()]
    plain = [pair([r.model_copy(update={"draft_s": 0.0, "verify_s": 4.0}) for r in base], base)]
    assert cost_model.cost_ratio(plain).note == "nothing was drafted"
    assert cost_model.speedup_predicted(plain).value is None
    assert COST_RATIO.interval(plain).low is None
    assert cost_model.verify_ratio(plain).value == pytest.approx((8 / 10) / 2)


def test_without_pass_times_there_is_nothing_to_say() -> None:
    untimed = [pair([decoded("sd", 1, [(3, 2, 3)], decode_s=4)], AR)]
    assert cost_model.cost_ratio(untimed).note == "no cell with pass times that AR finished too"
    assert cost_model.cost_ratio([[]]).value is None
    assert COST_RATIO.interval([[]]).low is None
