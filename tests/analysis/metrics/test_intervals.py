"""Intervals over questions and launches: against explicit loops, and on paper; comparisons of records' values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from specbench_s2d.analysis.metrics import acceptance, quality
from specbench_s2d.analysis.metrics.acceptance import MAT
from specbench_s2d.analysis.metrics.intervals import Sums, interval, quotients, summed
from specbench_s2d.analysis.metrics.pairs import Pair, pair
from specbench_s2d.analysis.metrics.quality import PERPLEXITY, quality_statistic
from specbench_s2d.analysis.metrics.speed import LENGTH
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.runs.columns import Asked, Floats
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, make_record, of, paper_run

RUN = paper_run()
AR, SD = of("ar", RUN), of("sd", RUN)
PAIRS = pair(SD, AR)
ROWS = np.random.default_rng(3).uniform(1, 9, size=(3, 7, 2))
"""Of three launches and seven questions: two columns."""


def quotient(sums_GCR: Floats) -> Floats:
    values: Floats = quotients(sums_GCR)[0]
    return values


def sums(rows: dict[tuple[int, int], Sequence[float]]) -> Sums:
    """The sums of each launch and question."""
    launches, questions = np.array(list(rows), dtype=np.int64).reshape(-1, 2).T
    of_rows = np.array(list(rows.values()), dtype=np.float64) if rows else np.zeros((0, 1))
    return summed(Asked.of(questions, launches), of_rows)


def sums_of(rows_LNC: Floats) -> Sums:
    return sums({(launch, n): row for launch, of in enumerate(rows_LNC) for n, row in enumerate(of.tolist())})


def by_hand(rows_LNC: Floats, level: float = 0.95) -> tuple[float, float]:
    """The same by loops: leave one out, on both levels, of the logarithm of a quotient."""

    def log(rows: Floats) -> float:
        numerator, denominator = rows.reshape(-1, 2).sum(axis=0)
        return math.log(numerator / denominator)

    def variance(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return (len(values) - 1) / len(values) * sum((value - mean) ** 2 for value in values)

    launches, questions = rows_LNC.shape[:2]
    of_questions = variance([log(np.delete(rows_LNC, question, axis=1)) for question in range(questions)])
    weights = rows_LNC[:, :, 1].sum(axis=0)
    degrees = weights.sum() ** 2 / (weights**2).sum() - 1
    of_launches = variance([log(np.delete(rows_LNC, one, axis=0)) for one in range(launches)]) if launches > 1 else 0
    both = of_questions + of_launches
    under = of_questions**2 / degrees + (of_launches**2 / (launches - 1) if launches > 1 else 0)
    half = stats.t.ppf((1 + level) / 2, both**2 / under) * math.sqrt(both)
    return math.exp(log(rows_LNC) - half), math.exp(log(rows_LNC) + half)


@pytest.mark.parametrize("launches", [1, 2, 3])
def test_it_is_the_jackknife_over_both_levels(launches: int) -> None:
    found = interval([sums_of(ROWS[:launches])], quotient)
    assert (found.low, found.high) == pytest.approx(by_hand(ROWS[:launches]))
    assert found.questions == 7


def test_the_level_widens_it() -> None:
    found = interval([sums_of(ROWS)], quotient, level=0.8)
    assert (found.low, found.high) == pytest.approx(by_hand(ROWS, level=0.8))


def test_on_a_linear_scale_it_is_the_mean_s_own_t_interval() -> None:
    """Of equal weights: mean ± t x standard deviation / sqrt(n)."""
    values = [1.0, 2.0, 4.0, 8.0, 5.0, 3.0]
    found = interval([sums({(0, i): [v, 1.0] for i, v in enumerate(values)})], quotient, scale="linear")
    mean, error = np.mean(values), np.std(values, ddof=1) / math.sqrt(6)
    half = stats.t.ppf(0.975, 5) * error
    assert (found.low, found.high) == (pytest.approx(mean - half), pytest.approx(mean + half))


def test_launches_that_differ_widen_what_questions_alone_say() -> None:
    alike = np.repeat(ROWS[:1], 3, axis=0)
    apart = alike * np.array([1.0, 1.5, 0.7])[:, None, None] ** np.array([1, 0])  # numerators alone
    narrow, wide = (interval([sums_of(rows)], quotient) for rows in (alike, apart))
    assert narrow == interval([sums_of(ROWS[:1] * 3)], quotient)  # three launches that agree are as good as one
    assert wide.low is not None and narrow.low is not None and wide.low < narrow.low


def test_a_question_that_outweighs_all_others_leaves_few_degrees_of_freedom() -> None:
    heavy = np.ones((1, 8, 2))
    heavy[0, :, 0] = [1.0, 1.1, 0.9, 1.2, 1.0, 0.8, 1.1, 0.9]
    heavy *= np.array([50.0, *[1.0] * 7])[None, :, None]
    weights = heavy[0, :, 1]
    assert weights.sum() ** 2 / (weights**2).sum() - 1 < 1  # and is taken as 1, below which t has no use
    found, ratio = interval([sums_of(heavy)], quotient), heavy[0, :, 0].sum() / heavy[0, :, 1].sum()
    logs = [math.log(np.delete(heavy[0], i, axis=0)[:, 0].sum() / np.delete(heavy[0], i, axis=0)[:, 1].sum())
            for i in range(8)]  # fmt: skip
    half = stats.t.ppf(0.975, 1) * math.sqrt(7 / 8 * sum((x - np.mean(logs)) ** 2 for x in logs))
    assert found.high == pytest.approx(ratio * math.exp(half))


def test_a_question_that_a_group_lacks_adds_nothing_there() -> None:
    """The sum of both groups' columns: 5 questions in one, the fifth alone in the other."""

    def both(sums_GCR: Floats) -> Floats:
        sums: Floats = sums_GCR[:, 0].sum(axis=0)
        return sums

    first = sums({(0, question): [1.0, 1.0] for question in range(5)})
    found = interval([first, sums({(0, 4): [1.0, 1.0]})], both, scale="linear")
    without = [5.0, 5.0, 5.0, 5.0, 4.0]
    spread = math.sqrt(4 / 5 * sum((x - np.mean(without)) ** 2 for x in without))
    shares = np.array([0.1, 0.1, 0.1, 0.1, 0.6])
    half = stats.t.ppf(0.975, 1 / (shares**2).sum() - 1) * spread
    assert (found.low, found.high) == (pytest.approx(6 - half), pytest.approx(6 + half))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_below_five_questions_there_is_none(count: int) -> None:
    found = interval([sums_of(ROWS[:1, :count])], quotient)
    assert (found.low, found.high, found.questions) == (None, None, count)
    assert found.note == f"n = {count}: no interval from fewer than 5 questions"
    assert interval([sums_of(ROWS[:1, :5])], quotient).low is not None


def test_a_value_that_one_question_alone_defines_has_no_interval() -> None:
    alone = sums({(0, i): [1.0, 1.0 if i == 0 else 0.0] for i in range(6)})
    assert interval([alone], quotient).note == (
        "no interval: without one of its questions or launches there is no value"
    )


def test_sums_are_by_launch_and_question() -> None:
    """Tokens and answers: 4 of question 7 in launch 0 (1 and 3), 2 of question "b", 5 of question 7 in launch 1."""
    asked = [(7, 0, 1), ("b", 0, 2), (7, 0, 3), (7, 1, 5)]
    records = [make_record("sd", question, launch=launch, new_tokens=n) for question, launch, n in asked]
    found = LENGTH.sums(records)
    questions = found.asked.questions
    assert found.asked.launches.tolist() == [0, 0, 1]
    assert questions[0] == questions[2] != questions[1]
    assert found.sums_KC.tolist() == [[4.0, 2.0], [2.0, 1.0], [5.0, 1.0]]


@pytest.mark.parametrize(("statistic", "value"), [(MAT, acceptance.mat), (PERPLEXITY, quality.perplexity)])
def test_where_all_questions_are_alike_the_interval_is_the_value(statistic: object, value: object) -> None:
    alike = [decoded("sd", i, [(5, 2, 3), (5, 0, 1)], decode_s=1, nll_sum=7) for i in range(5)]
    found = statistic.interval([alike])  # type: ignore[attr-defined]
    assert found.low == pytest.approx(found.high) == pytest.approx(value(alike).value)  # type: ignore[operator]


def steps_of(lengths: list[int], launch: int = 0) -> list[Record]:
    """A question for each length: one step that emits so many."""
    made = [decoded("sd", i, [(9, n - 1, n)], decode_s=1) for i, n in enumerate(lengths)]
    return [record.model_copy(update={"launch": launch}) for record in made]


def test_several_targets_are_averaged_each_weighing_alike() -> None:
    lengths = [2, 3, 1, 4, 2]
    short, long = steps_of(lengths), [r.model_copy(update={"emitted_per_step": [3] * 50}) for r in steps_of(lengths)]
    found = MAT.interval([short, long])
    without = [math.log(((12 - n) / 4 + 3) / 2) for n in lengths]
    half = stats.t.ppf(0.975, 4) * math.sqrt(4 / 5 * sum((x - np.mean(without)) ** 2 for x in without))
    middle = (12 / 5 + 3) / 2
    assert (found.low, found.high) == (pytest.approx(middle * math.exp(-half)), pytest.approx(middle * math.exp(half)))


def test_a_ratio_of_two_runs_leaves_questions_out_of_both_at_once() -> None:
    """Ours emits twice as much a step on every question: the ratio never moves, however the questions differ."""
    base = steps_of([1, 2, 3, 4, 5])
    twice = [r.model_copy(update={"emitted_per_step": [2 * n for n in r.emitted_per_step or []]}) for r in base]
    found = MAT.ratio_interval([twice], [base])
    assert (found.low, found.high) == (pytest.approx(2), pytest.approx(2))


def test_launches_of_two_runs_are_left_out_one_run_at_a_time() -> None:
    """Launch 1 of one run has nothing to do with launch 1 of the other: two independent spreads add up."""

    def run(scale: float) -> list[Record]:
        second = [2 * n for n in (1, 2, 3, 4, 5)]
        return [
            r.model_copy(update={"new_tokens": int(100 * scale * (1 if r.launch == 0 else factor))})
            for launch, factor in ((0, 1.0), (1, 1.2))
            for r in steps_of(second, launch)
        ]

    ours, theirs = run(2.0), run(1.0)
    found = LENGTH.ratio_interval([ours], [theirs])
    # Without either launch a run's mean of 110 is 120 or 100; of the questions' values nothing differs.
    one_side = 1 / 2 * (math.log(120 / 110) - (math.log(120 / 110) + math.log(100 / 110)) / 2) ** 2 * 2
    half = stats.t.ppf(0.975, 2) * math.sqrt(2 * one_side)
    assert (found.low, found.high) == (pytest.approx(2 * math.exp(-half)), pytest.approx(2 * math.exp(half)))


def scored(label: str, *values: float | None) -> list[Record]:
    return [
        decoded(label, i, [(0, 0, 1)], decode_s=1, quality=None if value is None else {"f1": value})
        for i, value in enumerate(values)
    ]


def test_a_difference_of_quality_takes_only_answers_that_both_have() -> None:
    pairs = pair(scored("sd", 0.5, 1.0, 1.0, 0.0, 0.5, 1.0), scored("ar", 0.25, 0.25, None, 0.0, 0.0, 0.75))
    value, found = quality_statistic("f1").compare([pairs], "difference")
    differences = [0.25, 0.75, 0.0, 0.5, 0.25]
    half = stats.t.ppf(0.975, 4) * np.std(differences, ddof=1) / math.sqrt(5)
    assert value.value == pytest.approx(np.mean(differences))
    assert (found.low, found.high) == (pytest.approx(0.35 - half), pytest.approx(0.35 + half))


def test_quality_stays_within_its_scale() -> None:
    found = quality_statistic("f1").interval([scored("sd", 1.0, 1.0, 1.0, 1.0, 0.5)])
    assert found.high == 1.0 and found.low is not None and 0 < found.low < 0.9


def test_answers_that_all_score_alike_say_nothing_of_others() -> None:
    """Five wrong answers are no proof that every answer is wrong."""
    found = quality_statistic("f1").interval([scored("sd", 0.0, 0.0, 0.0, 0.0, 0.0)])
    assert (found.low, found.note) == (None, "no interval: all 5 questions have the same value")


def test_nothing_in_common_has_a_reason() -> None:
    value, found = quality_statistic("f1").compare([pair(scored("sd", None), scored("ar", 1.0))], "difference")
    assert (value.value, value.note, found.low) == (None, "no cell that both have", None)


def test_unfinished_and_unscored_records_count_for_nothing() -> None:
    whole = [decoded("sd", i, [(5, 2, 3)], decode_s=1, nll_sum=3 + i) for i in range(5)]
    more = [*whole, make_record("sd", 8, status="failed"), make_record("sd", 9, nll_sum=None, new_tokens=3)]
    assert PERPLEXITY.interval([more]) == PERPLEXITY.interval([whole])


def test_a_figure_that_is_nought_gives_no_ratio() -> None:
    pairs = pair(scored("sd", 1.0, 1.0), scored("ar", 0.0, 0.0))
    value, _ = quality_statistic("f1").compare([pairs], "ratio")
    assert value.value is None and value.note


def lowered(target: str, nlls: list[float], shift: float) -> list[Pair]:
    """Five tokens a question, AR's nll as given and the lossy decoder's less by `shift` times the question's number."""
    records = [ar(i, 5, decode_s=1, nll_sum=nll, target=target) for i, nll in enumerate(nlls)]
    records += [
        decoded("mjsd", i, [(4, 3, 4)], decode_s=1, nll_sum=nll - shift * (i + 1), target=target)
        for i, nll in enumerate(nlls)
    ]
    return pair(of("mjsd", records), of("ar", records))


def reduction(groups: list[list[Pair]]) -> tuple[Measure, Interval]:
    return PERPLEXITY.compare(groups, "reduction_percent")


def test_perplexity_beside_ars() -> None:
    """14 nats on 14 tokens beside 7 on 14."""
    assert PERPLEXITY.compare([PAIRS], "ratio")[0].value == pytest.approx(math.exp(14 / 14 - 7 / 14))


def test_a_reduction_is_of_pooled_perplexities_and_may_be_negative() -> None:
    """AR: 7 nats over 14 tokens; SD, in the made-up run a worse text: 14 nats over 14 tokens."""
    assert reduction([PAIRS])[0].value == pytest.approx(100 * (1 - math.exp(1.0) / math.exp(0.5)))


def test_of_a_reduction_several_targets_weigh_alike() -> None:
    groups = [lowered("a", [5, 6, 9], 0.2), lowered("b", [3, 8, 4], 0.5)]
    apart = [reduction([group])[0].value for group in groups]
    assert all(value is not None and value > 0 for value in apart)
    assert reduction(groups)[0].value == pytest.approx(sum(v for v in apart if v is not None) / 2)


def test_a_question_is_left_out_of_all_targets_at_once() -> None:
    nlls, shifts = ([5.0, 6.0, 9.0, 2.0, 4.0], [3.0, 8.0, 4.0, 7.0, 6.0]), (0.2, 0.5)
    groups = [lowered(name, own, shift) for name, own, shift in zip("ab", nlls, shifts, strict=True)]

    def value(questions: list[int]) -> float:
        lower = [sum(shift * (i + 1) for i in questions) / (5 * len(questions)) for shift in shifts]
        return sum(100 * (1 - math.exp(-nats)) for nats in lower) / 2

    without = [value([i for i in range(5) if i != out]) for out in range(5)]
    half = stats.t.ppf(0.975, 4) * math.sqrt(4 / 5 * sum((x - np.mean(without)) ** 2 for x in without))
    found = reduction(groups)[1]
    assert (found.low, found.high) == pytest.approx((value([*range(5)]) - half, value([*range(5)]) + half))


def test_what_cannot_be_said_is_missing_with_a_reason() -> None:
    whole = lowered("a", [5, 6], 0.2)
    unscored = [Pair(p.ours.model_copy(update={"nll_sum": None}), p.baseline) for p in whole]
    for groups in ([], [unscored], [whole, unscored]):
        value, found = reduction(groups)
        assert value.value is None and value.note and found.note
    assert reduction([lowered("a", [5], 0.2)])[1].note == "n = 1: no interval from fewer than 5 questions"


@pytest.mark.parametrize("seed", range(3))
def test_it_covers_what_it_claims(seed: int) -> None:
    """Of 300 simulated runs of 12 questions with skewed lengths, 95 % give or take what 300 can tell."""
    rng = np.random.default_rng(seed)

    def run(rng: np.random.Generator, questions: int) -> Floats:
        tokens = np.exp(rng.normal(4, 1, questions))
        return np.stack([tokens, tokens / np.exp(rng.normal(0.3, 0.3, questions))], axis=1)

    big = run(np.random.default_rng(99), 1_000_000).sum(axis=0)
    true, covers = big[0] / big[1], 0
    inside: Callable[[Interval], bool] = lambda i: i.low is not None and i.high is not None and i.low <= true <= i.high  # noqa: E731
    for _ in range(300):
        covers += inside(interval([sums_of(run(rng, 12)[None])], quotient))
    assert covers / 300 > 0.91
