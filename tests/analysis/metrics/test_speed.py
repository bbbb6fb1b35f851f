"""Rates and speed-ups, each worked on paper from the run of `factory.paper_run`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specbench_s2d.analysis.metrics import acceptance, bootstrap, speed
from specbench_s2d.analysis.metrics.pairs import pair
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, of, paper_run
from tests.analysis.metrics.generated import runs

RUN = paper_run()
AR, SD = of("ar", RUN), of("sd", RUN)
PAIRS = pair(SD, AR)


def test_tokens_are_counted_with_the_first_and_timed_without_it() -> None:
    assert speed.new_tokens(SD).value == 5 + 9
    assert speed.tokens_per_s(SD).value == pytest.approx((4 + 8) / (2 + 2))
    assert speed.tokens_per_s(AR).value == pytest.approx((4 + 8) / (4 + 16))


def test_the_share_of_the_bound_pools_seconds() -> None:
    records = [r.model_copy(update={"bound_s": bound_s}) for r, bound_s in zip(SD, (0.5, 1.5), strict=True)]
    assert speed.percent_of_bound(records).value == pytest.approx(100 * 2 / 4)
    assert speed.percent_of_bound(SD).note == "2 of 2 cells carry no bound_s or decode_s"


def test_a_speed_relative_to_another_decoder_pairs_their_cells() -> None:
    """sd takes 2 s for 4 and 8 tokens; the other takes 1 s and 8 s for the same."""
    other = [decoded("x", 1, [(4, 3, 4)], decode_s=1), decoded("x", 2, [(8, 7, 8)], decode_s=8)]
    pairs = pair(SD, other)
    assert speed.speedup([pairs]).value == pytest.approx((12 / 4) / (12 / 9))
    interval = speed.SPEEDUP.interval([pairs])
    assert (interval.low, interval.high) == (pytest.approx(1 / 2), pytest.approx(4))


def test_the_mean_over_targets_weighs_each_alike() -> None:
    slow = [r.model_copy(update={"decode_s": (r.decode_s or 0) * 5}) for r in SD]  # speed-up 1 instead of 5
    groups = [PAIRS, pair(slow, AR)]
    assert speed.speedup(groups).value == pytest.approx((5 + 1) / 2)
    missing = speed.speedup([PAIRS, []])
    assert missing == Measure(None, "no mean: 1 of 2 targets have no speed-up")


def test_one_draw_of_questions_serves_every_target() -> None:
    """Question 1 is fast on one target where question 2 is fast on the other: drawn alike, the mean never moves."""
    base = [ar(i, 5, decode_s=4) for i in (1, 2)]
    one = [decoded("sd", 1, [(3, 3, 4)], decode_s=4 / 6), decoded("sd", 2, [(3, 3, 4)], decode_s=4 / 2)]
    other = [decoded("sd", 1, [(3, 3, 4)], decode_s=4 / 2), decoded("sd", 2, [(3, 3, 4)], decode_s=4 / 6)]
    groups = [pair(one, base), pair(other, base)]
    interval = speed.SPEEDUP.interval(groups)
    # draws (1,1) and (2,2): the mean of 6 and 2; draw (1,2): the mean of 3 and 3
    assert (interval.low, interval.high) == (pytest.approx(3), pytest.approx(4))


def test_a_question_that_one_target_lacks_adds_nothing_there() -> None:
    interval = speed.SPEEDUP.interval([PAIRS, PAIRS[:1]])
    # draws without question 1 leave the second target without a rate: 2 and (5 + 2) / 2 remain
    assert (interval.low, interval.high) == (pytest.approx(2), pytest.approx(3.5))


def test_a_draw_whose_baseline_took_no_time_counts_for_nothing() -> None:
    """Question 3 has tokens but no seconds on AR's side: draws of it alone have no speed-up, not one of 0."""
    timeless = pair([decoded("sd", 3, [(3, 3, 4)], decode_s=1)], [ar(3, 5, decode_s=0)])
    interval = speed.SPEEDUP.interval([[*PAIRS[:1], *timeless]])
    # left: question 1 alone, 4 tokens in 2 s beside 4 in 4 s; and both, 8 in 3 s beside 8 in 4 s
    assert (interval.low, interval.high) == (pytest.approx((8 / 3) / (8 / 4)), pytest.approx((4 / 2) / (4 / 4)))


def test_the_ratio_of_two_speedups_draws_questions_once_for_both() -> None:
    faster = [r.model_copy(update={"decode_s": (r.decode_s or 0) / 2}) for r in SD]
    sides = [pair(faster, AR)], [PAIRS]
    assert speed.speedup_ratio(*sides).value == pytest.approx(2)
    interval = speed.SPEEDUP.ratio_interval(*sides)
    assert (interval.low, interval.high) == (pytest.approx(2), pytest.approx(2))
    assert speed.speedup_ratio([PAIRS], [[]]).value is None


def test_the_three_speedups_differ_and_are_exact() -> None:
    assert speed.speedup([PAIRS]).value == pytest.approx((12 / 4) / (12 / 20))
    assert speed.speedup_e2e(PAIRS).value == pytest.approx((14 / 7) / (14 / 23))
    assert speed.speedup_specbench(PAIRS).value == pytest.approx(((5 / 3 + 9 / 4) / 2) / ((4 / 5 + 9 / 18) / 2))


def test_all_three_speedups_have_intervals_from_drawing_questions() -> None:
    """Of two questions the draws are (1, 1), (2, 2) and both: the ends are each question's own figure."""
    e2e, specbench = speed.SPEEDUP_E2E.interval([PAIRS]), speed.SPEEDUP_SPECBENCH.interval([PAIRS])
    assert (e2e.low, e2e.high) == (pytest.approx((5 / 3) / (5 / 5)), pytest.approx((9 / 4) / (9 / 18)))
    assert (specbench.low, specbench.high) == (pytest.approx((5 / 3) / (4 / 5)), pytest.approx((9 / 4) / (9 / 18)))


def test_specbench_sums_the_turns_of_a_question_first() -> None:
    mine = [decoded("sd", 1, [(3, 3, 4)], decode_s=1, prefill_s=0, turn=t) for t in (1, 2)]
    base = [ar(1, 5, decode_s=9 * t, prefill_s=1, turn=t) for t in (1, 2)]
    value = speed.speedup_specbench(pair(mine, base)).value
    assert value == pytest.approx((10 / 2) / (10 / (10 + 19)))


def test_interval_of_two_questions_spans_their_own_speedups() -> None:
    """Resamples are (1,1), (1,2), (2,2) with chances 1/4, 1/2, 1/4: speed-ups 2, 5 and 8."""
    interval = speed.SPEEDUP.interval([PAIRS])
    assert (interval.low, interval.high) == (pytest.approx(2), pytest.approx(8))
    inner = speed.SPEEDUP.interval([PAIRS], level=0.4)
    assert (inner.low, inner.high) == (pytest.approx(5), pytest.approx(5))


def test_interval_is_the_same_for_the_same_seed_and_for_any_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [decoded("sd", i, [(5, i % 6, i % 6 + 1)], decode_s=1 + i % 3) for i in range(20)]
    pairs = pair(mine, [ar(i, 4, decode_s=3) for i in range(20)])
    whole = speed.SPEEDUP.interval([pairs], seed=3)
    assert whole == speed.SPEEDUP.interval([pairs], seed=3) != speed.SPEEDUP.interval([pairs], seed=4)
    monkeypatch.setattr(bootstrap, "_BLOCK_DRAWS", 64)
    blocks = speed.SPEEDUP.interval([pairs], seed=3)
    assert (blocks.low, blocks.high) == (pytest.approx(whole.low), pytest.approx(whole.high))


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Questions of speed-up 2 with known noise; of 100 intervals at 95 %, 85 to 100 hold it (chance below 1e-3)."""
    import numpy as np

    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        noise = rng.uniform(0.8, 1.2, size=40)
        mine = [decoded("sd", i, [(5, 5, 6)], decode_s=3 * float(x)) for i, x in enumerate(noise)]
        pairs = pair(mine, [ar(i, 7, decode_s=6) for i in range(40)])
        interval = speed.SPEEDUP.interval([pairs])
        held += interval.low is not None and interval.high is not None and interval.low <= 2 <= interval.high
    assert 85 <= held <= 100


def test_one_token_answers_have_no_rate_and_no_step() -> None:
    one = ar(1, 1, decode_s=0)
    for measure in (speed.tokens_per_s([one]), acceptance.mat([one]), speed.speedup([pair([one], [one])])):
        assert measure.value is None
        assert measure.note
    assert acceptance.acceptance_rate(AR) == Measure(None, "nothing was drafted")


def test_without_decode_times_both_speedups_of_whole_calls_remain() -> None:
    """As of an imported run: `speedup` alone is missing, with the reason, and has no interval."""
    reason = {"decode_s": "not in the files"}
    ours, base = ([r.model_copy(update={"decode_s": None, "reasons": reason}) for r in side] for side in (SD, AR))
    pairs = pair(ours, base)
    assert speed.speedup_e2e(pairs) == speed.speedup_e2e(PAIRS)
    assert speed.speedup_specbench(pairs) == speed.speedup_specbench(PAIRS)
    assert speed.speedup([pairs]) == Measure(None, "4 of 4 cells carry no decode_s (not in the files)")
    assert speed.SPEEDUP.interval([pairs]).low is None
    assert speed.rate_e2e(base).value == pytest.approx((5 + 9) / (5 + 18))


def test_a_pair_without_decode_times_adds_nothing_to_the_speedup() -> None:
    mixed = [r if r.question_id == 1 else r.model_copy(update={"decode_s": None}) for r in SD]
    assert speed.speedup([pair(mixed, AR)]).value == pytest.approx((4 / 2) / (4 / 4))


def test_without_retokenized_text_there_is_no_specbench_speedup() -> None:
    base = [r.model_copy(update={"retokenized_tokens": None}) for r in AR]
    assert speed.speedup_specbench(pair(SD, base)).note == "no AR cell carries retokenized_tokens"


@settings(deadline=None, max_examples=40)
@given(runs())
def test_against_itself_a_decoder_is_exactly_as_fast(records: list[Record]) -> None:
    pairs = pair(records, records)
    interval = speed.SPEEDUP.interval([pairs])
    assert (speed.speedup([pairs]).value, speed.speedup_e2e(pairs).value) == (1.0, 1.0)
    assert (interval.low, interval.high) == (1.0, 1.0)


@settings(deadline=None, max_examples=40)
@given(runs(), st.floats(0.1, 10))
def test_speedup_scales_with_time_and_stays_inside_the_questions(records: list[Record], factor: float) -> None:
    slower = [r.model_copy(update={"decode_s": (r.decode_s or 0) * factor}) for r in records]
    pairs = pair(records, slower)
    interval = speed.SPEEDUP.interval([pairs])
    assert speed.speedup([pairs]).value == pytest.approx(factor)
    assert (interval.low, interval.high) == (pytest.approx(factor), pytest.approx(factor))
