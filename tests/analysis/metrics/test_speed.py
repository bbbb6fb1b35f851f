"""Rates and speed-ups, each worked on paper from the run of `factory.paper_run`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from specbench_s2d.analysis.metrics import acceptance, speed
from specbench_s2d.analysis.metrics.pairs import pair
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.runs.record import Record
from tests.analysis.expected import ends, ends_of_three_copies
from tests.analysis.factory import ar, decoded, of, paper_run
from tests.analysis.metrics.generated import runs

RUN = paper_run()
AR, SD = of("ar", RUN), of("sd", RUN)
PAIRS = pair(SD, AR)
THRICE = pair(of("sd", paper_run(3)), of("ar", paper_run(3)))


def both_ends(interval: Interval) -> tuple[float | None, float | None]:
    return interval.low, interval.high


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


def test_the_mean_over_targets_weighs_each_alike() -> None:
    slow = [r.model_copy(update={"decode_s": (r.decode_s or 0) * 5}) for r in SD]  # speed-up 1 instead of 5
    groups = [PAIRS, pair(slow, AR)]
    assert speed.speedup(groups).value == pytest.approx((5 + 1) / 2)
    missing = speed.speedup([PAIRS, []])
    assert missing == Measure(None, "no mean: 1 of 2 targets have no speed-up")


def test_a_question_is_left_out_of_every_target_at_once() -> None:
    """Questions that are fast on one target are slow on the other: left out alike, the mean hardly moves."""
    base = [ar(i, 5, decode_s=4) for i in range(6)]
    one, other = ([decoded("sd", i, [(3, 3, 4)], decode_s=4 / (6, 2)[(i + k) % 2]) for i in range(6)] for k in (0, 1))
    alike = speed.SPEEDUP.interval([pair(one, base), pair(other, base)])
    assert both_ends(alike) == pytest.approx((3, 3))
    # 24 s of AR; sd takes 2/3 s and 2 s: without a fast question 20 / (22/3), without a slow one 20 / 6
    alone = speed.SPEEDUP.interval([pair(one, base)])
    assert both_ends(alone) == pytest.approx(ends_of_three_copies(24 / 8, 20 / (22 / 3), 20 / 6, (4, 4)))


def test_a_question_that_one_target_lacks_adds_nothing_there() -> None:
    """The second target has questions 1, 3 and 5 alone, all of speed-up 2: what moves is the first target's."""
    interval = speed.SPEEDUP.interval([THRICE, list(THRICE)[::2]])
    shares = ((4 / 60 + 1 / 3) / 2, 16 / 60 / 2)
    assert both_ends(interval) == pytest.approx(ends_of_three_copies(3.5, (5.6 + 2) / 2, (4.4 + 2) / 2, shares))
    assert interval.questions == 6


def test_where_one_question_has_all_of_the_time_there_is_no_interval() -> None:
    """Without question 0 AR has tokens and no seconds: no speed-up, not one of 0."""
    timeless = pair([decoded("sd", i, [(3, 3, 4)], decode_s=1) for i in range(6)],
                    [ar(i, 5, decode_s=0 if i else 4) for i in range(6)])  # fmt: skip
    interval = speed.SPEEDUP.interval([timeless])
    assert both_ends(interval) == (None, None)
    assert interval.note == "no interval: without one of its questions or launches there is no value"


def test_the_ratio_of_two_speedups_leaves_a_question_out_of_both() -> None:
    faster = [r.model_copy(update={"decode_s": (r.decode_s or 0) / 2}) for r in of("sd", paper_run(3))]
    sides = [pair(faster, of("ar", paper_run(3)))], [THRICE]
    assert speed.speedup_ratio(*sides).value == pytest.approx(2)
    assert both_ends(speed.SPEEDUP.ratio_interval(*sides)) == pytest.approx((2, 2))
    assert speed.speedup_ratio([PAIRS], [[]]).value is None


def test_the_three_speedups_differ_and_are_exact() -> None:
    assert speed.speedup([PAIRS]).value == pytest.approx((12 / 4) / (12 / 20))
    assert speed.speedup_e2e(PAIRS).value == pytest.approx((14 / 7) / (14 / 23))
    assert speed.speedup_specbench(PAIRS).value == pytest.approx(((5 / 3 + 9 / 4) / 2) / ((4 / 5 + 9 / 18) / 2))


def test_all_three_speedups_have_intervals_from_leaving_questions_out() -> None:
    """Left out: one of questions 1, 3, 5, or one of 2, 4, 6. A question weighs by AR's seconds, or by AR's rate."""
    decode = ends_of_three_copies(60 / 12, 56 / 10, 44 / 10, (4, 16))
    assert both_ends(speed.SPEEDUP.interval([THRICE])) == pytest.approx(decode)
    e2e = ends_of_three_copies(23 / 7, (2 * 5 + 3 * 18) / (2 * 3 + 3 * 4), (3 * 5 + 2 * 18) / (3 * 3 + 2 * 4), (5, 18))
    assert both_ends(speed.SPEEDUP_E2E.interval([THRICE])) == pytest.approx(e2e)
    ours, base = (5 / 3, 9 / 4), (4 / 5, 9 / 18)
    value, *without = (
        (odd * ours[0] + even * ours[1]) / (odd * base[0] + even * base[1]) for odd, even in ((3, 3), (2, 3), (3, 2))
    )
    specbench = ends_of_three_copies(value, *without, base)
    assert both_ends(speed.SPEEDUP_SPECBENCH.interval([THRICE])) == pytest.approx(specbench)


def test_specbench_counts_a_question_once_in_each_launch() -> None:
    """5 tokens in 1 s and in 5 s, beside 5 tokens in 10 s both times: the mean of 5 and 1 over 0.5."""
    mine = [decoded("sd", 1, [(3, 3, 4)], decode_s=s, prefill_s=0, launch=i) for i, s in enumerate((1, 5))]
    base = [ar(1, 5, decode_s=10, prefill_s=0, launch=i) for i in (0, 1)]
    assert speed.speedup_specbench(pair(mine, base)).value == pytest.approx(3 / 0.5)


def test_two_questions_have_speedups_and_no_interval() -> None:
    for statistic in (speed.SPEEDUP, speed.SPEEDUP_E2E, speed.SPEEDUP_SPECBENCH):
        interval = statistic.interval([PAIRS])
        assert interval == Interval(None, None, "n = 2: no interval from fewer than 5 questions", 2)


def test_specbench_sums_the_turns_of_a_question_first() -> None:
    mine = [decoded("sd", 1, [(3, 3, 4)], decode_s=1, prefill_s=0, turn=t) for t in (1, 2)]
    base = [ar(1, 5, decode_s=9 * t, prefill_s=1, turn=t) for t in (1, 2)]
    value = speed.speedup_specbench(pair(mine, base)).value
    assert value == pytest.approx((10 / 2) / (10 / (10 + 19)))


def test_specbench_takes_each_repeat_and_each_launch_as_one_more_question() -> None:
    """Rates of 5/2 and 5/3 over AR's 5/10 and 5/20; summed together they would be (10/5) / (10/30)."""
    for field in ("repeat", "launch"):
        mine = [decoded("sd", 1, [(3, 3, 4)], decode_s=1 + i, **{field: i}) for i in (0, 1)]
        base = [ar(1, 5, decode_s=9 + 10 * i, **{field: i}) for i in (0, 1)]
        value = speed.speedup_specbench(pair(mine, base)).value
        assert value == pytest.approx((5 / 2 + 5 / 3) / (5 / 10 + 5 / 20))


def test_questions_of_unlike_length_weigh_by_their_seconds() -> None:
    """Twenty questions, no two alike: without each in turn, by a loop over records."""
    mine = [decoded("sd", i, [(5, i % 6, i % 6 + 1)], decode_s=1 + i % 3) for i in range(20)]
    base = [ar(i, 4, decode_s=3 + i) for i in range(20)]

    def speedup(left_out: int) -> float:
        kept = [i for i in range(20) if i != left_out]
        tokens, base_tokens = (sum((side[i].new_tokens or 0) - 1 for i in kept) for side in (mine, base))
        seconds, base_seconds = (sum(side[i].decode_s or 0 for i in kept) for side in (mine, base))
        return (tokens / seconds) / (base_tokens / base_seconds)

    without, weights = [speedup(i) for i in range(20)], [3.0 + i for i in range(20)]
    for level in (0.95, 0.5):
        interval = speed.SPEEDUP.interval([pair(mine, base)], level)
        assert both_ends(interval) == pytest.approx(ends(speedup(-1), without, weights, level=level))


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


def test_launches_widen_the_interval_by_what_they_differ_in() -> None:
    """Two launches of the same questions; sd is 1.5 times as slow in the second. The speed-up without the second launch
    is 5, without the first 10/3; two launches leave one degree of freedom, questions about 3.4."""
    again = [r.model_copy(update={"launch": 1, "key": f"{r.key}/1"}) for r in paper_run(3)]
    slower = [r.model_copy(update={"decode_s": (r.decode_s or 0) * 1.5}) if r.label == "sd" else r for r in again]
    one, two = (
        speed.SPEEDUP.interval([THRICE]),
        speed.SPEEDUP.interval([[*THRICE, *pair(of("sd", slower), of("ar", again))]]),
    )
    assert one.low is not None and one.high is not None and two.low is not None and two.high is not None
    assert two.low * two.high == pytest.approx(4**2)  # 120 s of AR over 30 s
    of_launches = math.log(5 / (10 / 3)) ** 2 / 4
    of_questions = 5 * math.log(5.6 / 4.4) ** 2 / 4
    weighing = 60**2 / (3 * 4**2 + 3 * 16**2) - 1
    variance = of_launches + of_questions
    freedom = variance**2 / (of_launches**2 + of_questions**2 / weighing)
    assert math.log(two.high / 4) == pytest.approx(student.ppf(0.975, freedom) * math.sqrt(variance))
    assert two.high / two.low > one.high / one.low and two.questions == 6


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


def test_answers_of_one_token_have_no_decode_rate() -> None:
    """The prefill gives the only token; the clock still counts the microseconds in which no Step is taken."""
    one = [ar(i, 1, decode_s=1e-6, bound_s=0.0) for i in range(2)]
    lossy = [decoded("mjsd", i, [], decode_s=1e-6, bound_s=0.0) for i in range(2)]
    long = [ar(i, 5, decode_s=4.0, bound_s=1.0) for i in range(2)]
    nothing = Measure(None, "no decode time: every answer is one token, which the prefill gives")
    assert speed.tokens_per_s(one) == speed.percent_of_bound(one) == nothing
    for ours, base, whose in ((lossy, one, "ar's"), (lossy, long, "the decoder's"), (long, one, "ar's")):
        found = speed.speedup([pair(ours, base)])
        why = f"no decode rate to compare: {whose} answers are one token each, which the prefill gives"
        assert found == Measure(None, why)
    assert speed.speedup_e2e(pair(lossy, one)).value == pytest.approx(1)
    assert speed.tokens_per_s([*one, *long]).value == pytest.approx(8 / (8 + 2e-6))
