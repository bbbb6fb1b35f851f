"""The definitions, each with a number worked on paper from the run of `factory.paper_run`."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specbench_s2d.analysis.metrics import bootstrap, stats
from specbench_s2d.analysis.metrics import columns as definitions
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, make_record, of, paper_run

RUN = paper_run()
AR, SD = of("ar", RUN), of("sd", RUN)
PAIRS = stats.pair(SD, AR)

steps = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda s: (max(s), min(s), min(s) + 1)), min_size=1, max_size=6
)
seconds = st.floats(0.01, 100)


@st.composite
def runs(draw: st.DrawFn) -> list[Record]:
    """Two to six questions of one decoder."""
    made = draw(st.lists(st.tuples(steps, seconds, seconds), min_size=2, max_size=6))
    return [decoded("sd", i, s, decode_s=d, prefill_s=p) for i, (s, d, p) in enumerate(made)]


def test_tokens_are_counted_with_the_first_and_timed_without_it() -> None:
    assert stats.new_tokens(SD).value == 5 + 9
    assert stats.tokens_per_s(SD).value == pytest.approx((4 + 8) / (2 + 2))
    assert stats.tokens_per_s(AR).value == pytest.approx((4 + 8) / (4 + 16))


def test_the_share_of_the_bound_pools_seconds() -> None:
    records = [r.model_copy(update={"bound_s": bound_s}) for r, bound_s in zip(SD, (0.5, 1.5), strict=True)]
    assert stats.percent_of_bound(records).value == pytest.approx(100 * 2 / 4)
    assert stats.percent_of_bound(SD).note == "2 of 2 cells carry no bound_s or decode_s"


def test_mat_pools_steps_and_the_mean_per_question_does_not() -> None:
    assert stats.mat(SD).value == pytest.approx((2 + 1 + 1 + 6 + 2) / 5)
    assert stats.mean_mat_per_question(SD).value == pytest.approx((4 / 3 + 8 / 2) / 2)


def test_mat_of_ar_is_exactly_one() -> None:
    assert stats.mat(AR).value == stats.mean_mat_per_question(AR).value == 1.0


def test_accepted_per_pass_leaves_the_bonus_out_and_counts_before_the_cut() -> None:
    assert stats.accepted_per_pass(SD).value == pytest.approx((1 + 0 + 0 + 5 + 3) / 5)
    assert stats.accepted_per_pass(AR).value == 0.0


def test_tokens_per_pass_are_mat_where_a_step_is_one_pass() -> None:
    assert stats.tokens_per_pass(SD) == stats.mat(SD)
    assert stats.tokens_per_pass(AR).value == 1.0
    cut = decoded("mjgd", 1, [(0, 0, 3), (0, 0, 1)], decode_s=1, target_passes=6)  # EOS: three passes, one token kept
    assert stats.tokens_per_pass([cut]).value == pytest.approx(4 / 6)
    assert stats.tokens_per_pass([ar(1, 1, decode_s=0)]) == definitions.Measure(None, "no target pass after prefill")


def test_passes_may_outnumber_steps() -> None:
    block = decoded("mjgd", 1, [(0, 0, 3), (0, 0, 3)], decode_s=1, target_passes=6)
    assert stats.tokens_per_pass([block]).value == 1.0
    assert stats.mat([block]).value == 3.0
    assert stats.accepted_per_pass([block]).value == 0.0


def test_acceptance_by_position_counts_only_proposals_that_reached_it() -> None:
    positions = [(p.position, p.reached, p.accepted) for p in stats.acceptance_by_position(SD)]
    assert positions == [(1, 5, 3), (2, 3, 2), (3, 2, 2), (4, 2, 1), (5, 1, 1)]
    assert stats.acceptance_rate(SD).value == pytest.approx(9 / 13)


def test_a_fully_accepted_short_draft_reaches_no_further_position() -> None:
    positions = stats.acceptance_by_position([decoded("sd", 1, [(2, 2, 3), (4, 0, 1)], decode_s=1)])
    assert [(p.reached, p.accepted) for p in positions] == [(2, 1), (1, 1)]


def test_a_tree_is_as_deep_as_its_levels() -> None:
    tree = decoded("s2d-tree", 1, [(60, 4, 5), (60, 0, 1)], decode_s=1, levels_per_step=[4, 3])
    positions = [(p.position, p.reached, p.accepted) for p in stats.acceptance_by_position([tree])]
    assert positions == [(1, 2, 1), (2, 1, 1), (3, 1, 1), (4, 1, 1)]
    assert stats.acceptance_rate([tree]).value == pytest.approx(4 / 5)


def test_a_speed_relative_to_another_decoder_pairs_their_cells() -> None:
    """sd takes 2 s for 4 and 8 tokens; the other takes 1 s and 8 s for the same."""
    other = [decoded("x", 1, [(4, 3, 4)], decode_s=1), decoded("x", 2, [(8, 7, 8)], decode_s=8)]
    pairs = stats.pair(SD, other)
    assert stats.speedup(pairs).value == pytest.approx((12 / 4) / (12 / 9))
    interval = stats.speedup_interval(pairs)
    assert (interval.low, interval.high) == (pytest.approx(1 / 2), pytest.approx(4))


def test_the_mean_over_targets_weighs_each_alike() -> None:
    slow = [r.model_copy(update={"decode_s": (r.decode_s or 0) * 5}) for r in SD]  # speed-up 1 instead of 5
    groups = [PAIRS, stats.pair(slow, AR)]
    assert stats.mean_speedup(groups).value == pytest.approx((5 + 1) / 2)
    missing = stats.mean_speedup([PAIRS, []])
    assert missing == definitions.Measure(None, "no mean: 1 of 2 targets have no speed-up")


def test_one_draw_of_questions_serves_every_target() -> None:
    """Question 1 is fast on one target where question 2 is fast on the other: drawn alike, the mean never moves."""
    base = [ar(i, 5, decode_s=4) for i in (1, 2)]
    one = [decoded("sd", 1, [(3, 3, 4)], decode_s=4 / 6), decoded("sd", 2, [(3, 3, 4)], decode_s=4 / 2)]
    other = [decoded("sd", 1, [(3, 3, 4)], decode_s=4 / 2), decoded("sd", 2, [(3, 3, 4)], decode_s=4 / 6)]
    groups = [stats.pair(one, base), stats.pair(other, base)]
    interval = stats.mean_speedup_interval(groups)
    # draws (1,1) and (2,2): the mean of 6 and 2; draw (1,2): the mean of 3 and 3
    assert (interval.low, interval.high) == (pytest.approx(3), pytest.approx(4))


def test_the_mean_of_one_target_is_that_target() -> None:
    assert stats.mean_speedup([PAIRS]) == stats.speedup(PAIRS)
    assert stats.mean_speedup_interval([PAIRS], seed=5) == stats.speedup_interval(PAIRS, seed=5)


def test_a_question_that_one_target_lacks_adds_nothing_there() -> None:
    interval = stats.mean_speedup_interval([PAIRS, PAIRS[:1]])
    # draws without question 1 leave the second target without a rate: 2 and (5 + 2) / 2 remain
    assert (interval.low, interval.high) == (pytest.approx(2), pytest.approx(3.5))


def test_a_draw_whose_baseline_took_no_time_counts_for_nothing() -> None:
    """Question 3 has tokens but no seconds on AR's side: draws of it alone have no speed-up, not one of 0."""
    timeless = stats.pair([decoded("sd", 3, [(3, 3, 4)], decode_s=1)], [ar(3, 5, decode_s=0)])
    interval = stats.speedup_interval([*PAIRS[:1], *timeless])
    # left: question 1 alone, 4 tokens in 2 s beside 4 in 4 s; and both, 8 in 3 s beside 8 in 4 s
    assert (interval.low, interval.high) == (pytest.approx((8 / 3) / (8 / 4)), pytest.approx((4 / 2) / (4 / 4)))


def test_the_ratio_of_two_speedups_draws_questions_once_for_both() -> None:
    faster = [r.model_copy(update={"decode_s": (r.decode_s or 0) / 2}) for r in SD]
    sides = [stats.pair(faster, AR)], [PAIRS]
    assert stats.speedup_ratio(*sides).value == pytest.approx(2)
    interval = stats.speedup_ratio_interval(*sides)
    assert (interval.low, interval.high) == (pytest.approx(2), pytest.approx(2))
    assert stats.speedup_ratio([PAIRS], [[]]).value is None


def test_the_three_speedups_differ_and_are_exact() -> None:
    assert stats.speedup(PAIRS).value == pytest.approx((12 / 4) / (12 / 20))
    assert stats.speedup_e2e(PAIRS).value == pytest.approx((14 / 7) / (14 / 23))
    assert stats.speedup_specbench(PAIRS).value == pytest.approx(((5 / 3 + 9 / 4) / 2) / ((4 / 5 + 9 / 18) / 2))


def test_all_three_speedups_have_intervals_from_drawing_questions() -> None:
    """Of two questions the draws are (1, 1), (2, 2) and both: the ends are each question's own figure."""
    e2e, specbench = stats.speedup_e2e_interval(PAIRS), stats.speedup_specbench_interval(PAIRS)
    assert (e2e.low, e2e.high) == (pytest.approx((5 / 3) / (5 / 5)), pytest.approx((9 / 4) / (9 / 18)))
    assert (specbench.low, specbench.high) == (pytest.approx((5 / 3) / (4 / 5)), pytest.approx((9 / 4) / (9 / 18)))


def test_specbench_sums_the_turns_of_a_question_first() -> None:
    mine = [decoded("sd", 1, [(3, 3, 4)], decode_s=1, prefill_s=0, turn=t) for t in (1, 2)]
    base = [ar(1, 5, decode_s=9 * t, prefill_s=1, turn=t) for t in (1, 2)]
    value = stats.speedup_specbench(stats.pair(mine, base)).value
    assert value == pytest.approx((10 / 2) / (10 / (10 + 19)))


def test_interval_of_two_questions_spans_their_own_speedups() -> None:
    """Resamples are (1,1), (1,2), (2,2) with chances 1/4, 1/2, 1/4: speed-ups 2, 5 and 8."""
    interval = stats.speedup_interval(PAIRS)
    assert (interval.low, interval.high) == (pytest.approx(2), pytest.approx(8))
    inner = stats.speedup_interval(PAIRS, level=0.4)
    assert (inner.low, inner.high) == (pytest.approx(5), pytest.approx(5))


def test_interval_is_the_same_for_the_same_seed_and_for_any_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [decoded("sd", i, [(5, i % 6, i % 6 + 1)], decode_s=1 + i % 3) for i in range(20)]
    pairs = stats.pair(mine, [ar(i, 4, decode_s=3) for i in range(20)])
    whole = stats.speedup_interval(pairs, seed=3)
    assert whole == stats.speedup_interval(pairs, seed=3) != stats.speedup_interval(pairs, seed=4)
    monkeypatch.setattr(bootstrap, "_BLOCK_DRAWS", 64)
    blocks = stats.speedup_interval(pairs, seed=3)
    assert (blocks.low, blocks.high) == (pytest.approx(whole.low), pytest.approx(whole.high))


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Questions of speed-up 2 with known noise; of 100 intervals at 95 %, 85 to 100 hold it (chance below 1e-3)."""
    import numpy as np

    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        noise = rng.uniform(0.8, 1.2, size=40)
        mine = [decoded("sd", i, [(5, 5, 6)], decode_s=3 * float(x)) for i, x in enumerate(noise)]
        interval = stats.speedup_interval(stats.pair(mine, [ar(i, 7, decode_s=6) for i in range(40)]), resamples=500)
        held += interval.low is not None and interval.high is not None and interval.low <= 2 <= interval.high
    assert 85 <= held <= 100


def test_perplexity_pools_tokens() -> None:
    assert stats.perplexity(SD).value == pytest.approx(math.exp((4 + 10) / (5 + 9)))
    assert stats.perplexity(AR).value == pytest.approx(math.exp((3 + 4) / 14))


def test_failed_and_skipped_records_count_for_nothing() -> None:
    failed = make_record("sd", 3, status="failed", error="out of memory")
    assert stats.mat([*SD, failed]) == stats.mat(SD)
    assert stats.mat([failed]) == definitions.Measure(None, "no cell finished")


@pytest.mark.parametrize("lost", ["failed", "skipped"])
def test_a_lost_partner_drops_the_pair(lost: str) -> None:
    without = [AR[0], make_record("ar", 2, status=lost)]
    pairs = stats.pair(SD, without)
    assert [p.ours.question_id for p in pairs] == [1]
    assert stats.speedup(pairs).value == pytest.approx((4 / 2) / (4 / 4))
    assert stats.speedup_interval(pairs).note == "no interval from 1 question"


def test_pairs_need_the_same_target_suite_question_turn_and_repeat() -> None:
    for field, value in {"target": "u", "suite": "rag", "turn": 2, "repeat": 1}.items():
        assert stats.pair(SD, [ar(1, 5, decode_s=4, **{field: value})]) == []
    assert stats.pair(SD, [ar("1", 5, decode_s=4)]) == []


def test_one_token_answers_have_no_rate_and_no_step() -> None:
    one = ar(1, 1, decode_s=0)
    for measure in (stats.tokens_per_s([one]), stats.mat([one]), stats.speedup(stats.pair([one], [one]))):
        assert measure.value is None
        assert measure.note
    assert stats.acceptance_rate(AR) == definitions.Measure(None, "nothing was drafted")


def test_partly_missing_fields_are_left_out_and_said_so() -> None:
    blind = decoded("sd", 3, [(1, 1, 2)], decode_s=1)
    measure = stats.perplexity([*SD, blind])
    assert measure.value == stats.perplexity(SD).value
    assert measure.note == "1 of 3 cells carry no nll_sum or new_tokens"
    assert stats.full_sum([*SD, blind], "nll_sum").value is None
    told = blind.model_copy(update={"reasons": {"nll_sum": "no memory for the pass"}})
    assert stats.perplexity([told]).note == "1 of 1 cells carry no nll_sum or new_tokens (no memory for the pass)"


def test_without_decode_times_both_speedups_of_whole_calls_remain() -> None:
    """As of an imported run: `speedup` alone is missing, with the reason, and has no interval."""
    reason = {"decode_s": "not in the files"}
    ours, base = ([r.model_copy(update={"decode_s": None, "reasons": reason}) for r in side] for side in (SD, AR))
    pairs = stats.pair(ours, base)
    assert stats.speedup_e2e(pairs) == stats.speedup_e2e(PAIRS)
    assert stats.speedup_specbench(pairs) == stats.speedup_specbench(PAIRS)
    assert stats.speedup(pairs) == definitions.Measure(None, "4 of 4 cells carry no decode_s (not in the files)")
    assert stats.speedup_interval(pairs).low is None
    assert stats.rate_e2e(base).value == pytest.approx((5 + 9) / (5 + 18))


def test_a_pair_without_decode_times_adds_nothing_to_the_speedup() -> None:
    mixed = [r if r.question_id == 1 else r.model_copy(update={"decode_s": None}) for r in SD]
    assert stats.speedup(stats.pair(mixed, AR)).value == pytest.approx((4 / 2) / (4 / 4))


def test_without_retokenized_text_there_is_no_specbench_speedup() -> None:
    base = [r.model_copy(update={"retokenized_tokens": None}) for r in AR]
    assert stats.speedup_specbench(stats.pair(SD, base)).note == "no AR cell carries retokenized_tokens"


def test_functions_and_columns_share_one_text() -> None:
    assert definitions.DEFINITIONS["mat"].startswith(
        "Mean accepted tokens: emitted tokens per Step, the bonus token included"
    )
    assert all("\n" not in text and not text.endswith(".") for text in definitions.DEFINITIONS.values())


@settings(deadline=None, max_examples=40)
@given(runs())
def test_against_itself_a_decoder_is_exactly_as_fast(records: list[Record]) -> None:
    pairs = stats.pair(records, records)
    interval = stats.speedup_interval(pairs, resamples=200)
    assert (stats.speedup(pairs).value, stats.speedup_e2e(pairs).value) == (1.0, 1.0)
    assert (interval.low, interval.high) == (1.0, 1.0)


@settings(deadline=None, max_examples=40)
@given(runs(), st.floats(0.1, 10))
def test_speedup_scales_with_time_and_stays_inside_the_questions(records: list[Record], factor: float) -> None:
    slower = [r.model_copy(update={"decode_s": (r.decode_s or 0) * factor}) for r in records]
    pairs = stats.pair(records, slower)
    interval = stats.speedup_interval(pairs, resamples=200)
    assert stats.speedup(pairs).value == pytest.approx(factor)
    assert (interval.low, interval.high) == (pytest.approx(factor), pytest.approx(factor))


@settings(deadline=None, max_examples=40)
@given(runs())
def test_acceptance_only_falls_with_position(records: list[Record]) -> None:
    positions = stats.acceptance_by_position(records)
    assert all(later.reached <= earlier.accepted for earlier, later in pairwise(positions))
    assert all(0 <= p.accepted <= p.reached for p in positions)
