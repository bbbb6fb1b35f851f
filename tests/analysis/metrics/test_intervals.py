"""Resampling questions: by hand, against an explicit loop; intervals and comparisons of records' values: on paper."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from specbench_s2d.analysis.metrics import acceptance, bootstrap, quality
from specbench_s2d.analysis.metrics.acceptance import MAT
from specbench_s2d.analysis.metrics.bootstrap import Floats, Statistic, interval, question_sums
from specbench_s2d.analysis.metrics.pairs import Pair, pair
from specbench_s2d.analysis.metrics.quality import PERPLEXITY, quality_statistic
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, make_record, of, paper_run

RUN = paper_run()
AR, SD = of("ar", RUN), of("sd", RUN)
PAIRS = pair(SD, AR)


def quotient(sums_GCR: Floats) -> Floats:
    quotients: Floats = sums_GCR[0, 0] / sums_GCR[0, 1]
    return quotients


def sums_of(*rows: tuple[float, float]) -> dict[int, Floats]:
    return {i: np.array(row) for i, row in enumerate(rows)}


def test_sums_are_per_question() -> None:
    sums = question_sums([("a", 1.0), ("b", 2.0), ("a", 3.0)], lambda item: item[0], lambda item: (item[1], 1.0))
    assert {key: row.tolist() for key, row in sums.items()} == {"a": [4.0, 2.0], "b": [2.0, 1.0]}


def test_the_ends_are_those_of_all_resamples() -> None:
    """Three questions have 27 equally likely draws; 20,000 resamples find their quantiles."""
    rows = [(1.0, 1.0), (6.0, 2.0), (20.0, 4.0)]
    every = [
        sum(rows[i][0] for i in draw) / sum(rows[i][1] for i in draw) for draw in itertools.product(range(3), repeat=3)
    ]
    found = interval([sums_of(*rows)], quotient, level=0.8)
    assert found.low == pytest.approx(np.quantile(every, 0.1, method="inverted_cdf"))
    assert found.high == pytest.approx(np.quantile(every, 0.9, method="inverted_cdf"))


def test_the_same_as_a_loop_over_the_same_draws() -> None:
    rows = np.random.default_rng(1).uniform(1, 9, size=(11, 2))
    draws = np.random.default_rng(5).integers(11, size=(300, 11))
    values = [rows[draw].sum(axis=0) for draw in draws]
    low, high = np.quantile([n / d for n, d in values], [0.025, 0.975])
    found = interval([sums_of(*map(tuple, rows.tolist()))], quotient, seed=5)  # type: ignore[arg-type]
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [sums_of((1, 1), (6, 2), (20, 4), (3, 3), (2, 8))]
    whole = interval(groups, quotient, seed=2)
    monkeypatch.setattr(bootstrap, "_BLOCK_DRAWS", 60)
    blocks = interval(groups, quotient, seed=2)
    assert (blocks.low, blocks.high) == (pytest.approx(whole.low), pytest.approx(whole.high))


def test_a_question_that_a_group_lacks_adds_nothing_there() -> None:
    def both(sums_GCR: Floats) -> Floats:
        sums: Floats = sums_GCR[:, 0].sum(axis=0)
        return sums

    found = interval([{"a": np.array([1.0]), "b": np.array([1.0])}, {"b": np.array([1.0])}], both)
    assert (found.low, found.high) == (2.0, 4.0)  # a twice: 2; b twice: 4


def test_undefined_resamples_count_for_nothing() -> None:
    found = interval([sums_of((0, 0), (6, 2))], quotient)
    assert (found.low, found.high) == (3.0, 3.0)
    assert interval([sums_of((0, 0), (1, 0))], quotient).note == "no interval: no resample gives a value"


@pytest.mark.parametrize("count", [0, 1])
def test_below_two_questions_there_is_none(count: int) -> None:
    found = interval([sums_of(*[(1.0, 1.0)] * count)], quotient)
    assert (found.low, found.high) == (None, None) and f"from {count} question" in str(found.note)


def test_perplexity_spans_its_questions_own() -> None:
    """Question 1: exp(4/5), question 2: exp(10/9); drawn once each, the pooled value."""
    found = PERPLEXITY.interval([SD])
    assert (found.low, found.high) == (pytest.approx(math.exp(4 / 5)), pytest.approx(math.exp(10 / 9)))
    assert found.low < (quality.perplexity(SD).value or 0) < found.high  # type: ignore[operator]


def test_mat_spans_its_questions_own() -> None:
    found = MAT.interval([SD])
    assert (found.low, found.high) == (pytest.approx(4 / 3), pytest.approx(8 / 2))


@pytest.mark.parametrize(("statistic", "value"), [(MAT, acceptance.mat), (PERPLEXITY, quality.perplexity)])
def test_where_all_questions_are_alike_the_interval_is_the_value(statistic: object, value: object) -> None:
    alike = [decoded("sd", i, [(5, 2, 3), (5, 0, 1)], decode_s=1, nll_sum=7) for i in range(4)]
    found = statistic.interval([alike])  # type: ignore[attr-defined]
    assert found.low == pytest.approx(found.high) == pytest.approx(value(alike).value)  # type: ignore[operator]


def test_several_targets_are_averaged_each_weighing_alike() -> None:
    long = [r.model_copy(update={"emitted_per_step": [3] * 50}) for r in SD]
    found = MAT.interval([SD, long])
    assert (found.low, found.high) == (pytest.approx((4 / 3 + 3) / 2), pytest.approx((8 / 2 + 3) / 2))


def test_perplexity_beside_ars() -> None:
    """14 nats on 14 tokens beside 7 on 14; question 1 alone 4/5 to 3/5, question 2 alone 10/9 to 4/9."""
    value, interval = PERPLEXITY.compare([PAIRS], "ratio")
    assert value.value == pytest.approx(math.exp(14 / 14 - 7 / 14))
    assert (interval.low, interval.high) == (
        pytest.approx(math.exp(4 / 5 - 3 / 5)),
        pytest.approx(math.exp(10 / 9 - 4 / 9)),
    )


def scored(label: str, *values: float | None) -> list[Record]:
    return [
        decoded(label, i, [(0, 0, 1)], decode_s=1, quality=None if value is None else {"f1": value})
        for i, value in enumerate(values)
    ]


def test_a_difference_of_quality_takes_only_answers_that_both_have() -> None:
    pairs = pair(scored("sd", 0.5, 1.0, 1.0), scored("ar", 0.25, 0.25, None))
    value, interval = quality_statistic("f1").compare([pairs], "difference")
    assert value.value == pytest.approx(0.5)
    assert (interval.low, interval.high) == (pytest.approx(0.25), pytest.approx(0.75))


def test_nothing_in_common_has_a_reason() -> None:
    value, interval = quality_statistic("f1").compare([pair(scored("sd", None), scored("ar", 1.0))], "difference")
    assert (value.value, value.note, interval.low) == (None, "no cell that both have", None)


def test_unfinished_and_unscored_records_count_for_nothing() -> None:
    more = [*SD, make_record("sd", 3, status="failed"), make_record("sd", 4, nll_sum=None, new_tokens=3)]
    assert PERPLEXITY.interval([more]) == PERPLEXITY.interval([SD])


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


def reduction(groups: list[list[Pair]], resamples: int) -> tuple[Measure, Interval]:
    return PERPLEXITY.compare(groups, "reduction_percent", resamples)


def test_a_reduction_is_of_pooled_perplexities_and_may_be_negative() -> None:
    """AR: 7 nats over 14 tokens; SD, in the made-up run a worse text: 14 nats over 14 tokens."""
    found, _ = reduction([PAIRS], 10)
    assert found.value == pytest.approx(100 * (1 - math.exp(1.0) / math.exp(0.5)))


def test_ar_beside_itself_is_nothing_lower() -> None:
    found, interval = reduction([pair(AR, AR)], 200)
    assert (found.value, interval.low, interval.high) == (0, 0, 0)


def test_of_a_reduction_several_targets_weigh_alike() -> None:
    groups = [lowered("a", [5, 6, 9], 0.2), lowered("b", [3, 8, 4], 0.5)]
    apart = [reduction([group], 10)[0].value for group in groups]
    assert all(value is not None and value > 0 for value in apart)
    assert reduction(groups, 10)[0].value == pytest.approx(sum(v for v in apart if v is not None) / 2)


def test_the_interval_draws_questions_once_for_all_targets() -> None:
    nlls, shifts = ([5.0, 6.0, 9.0, 2.0], [3.0, 8.0, 4.0, 7.0]), (0.2, 0.5)
    groups = [lowered(name, own, shift) for name, own, shift in zip("ab", nlls, shifts, strict=True)]
    _, interval = reduction(groups, 2000)
    rng, values = np.random.default_rng(7), []
    for _ in range(2000):
        drawn = rng.integers(4, size=4)
        lower = [sum(shift * (i + 1) for i in drawn) / (5 * 4) for shift in shifts]
        values.append(np.mean([100 * (1 - math.exp(-nats)) for nats in lower]))
    assert interval.low == pytest.approx(np.quantile(values, 0.025), abs=0.3)
    assert interval.high == pytest.approx(np.quantile(values, 0.975), abs=0.3)


def test_what_cannot_be_said_is_missing_with_a_reason() -> None:
    whole = lowered("a", [5, 6], 0.2)
    unscored = [Pair(p.ours.model_copy(update={"nll_sum": None}), p.baseline) for p in whole]
    for groups in ([], [unscored], [whole, unscored]):
        found, interval = reduction(groups, 10)
        assert found.value is None and found.note and interval.note
    assert reduction([lowered("a", [5], 0.2)], 10)[1].note == "no interval from 1 question"


def test_a_ratio_of_two_runs_draws_questions_once_for_both() -> None:
    """Ours emits twice as much a step on every question: the ratio never moves, however the questions differ."""
    base = [decoded("sd", i, [(5, i, i + 1)], decode_s=1) for i in range(4)]
    twice = [r.model_copy(update={"emitted_per_step": [2 * n for n in r.emitted_per_step or []]}) for r in base]
    found = MAT.ratio_interval([twice], [base])
    assert (found.low, found.high) == (pytest.approx(2), pytest.approx(2))


def test_a_statistic_takes_as_many_resamples_as_it_may() -> None:
    seen: list[int] = []

    def shape(sums_GCR: Floats) -> Floats:
        seen.append(sums_GCR.shape[2])
        return sums_GCR[:, 0]

    Statistic[Record](lambda r: [float(r.new_tokens or 0)], shape, most_resamples=7).interval([SD], 500)
    assert seen == [7]
