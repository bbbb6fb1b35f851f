"""Task quality of a row: means of answers' scores, corpus scores of their counts, reasons where there is neither."""

from __future__ import annotations

import math
import statistics

import pytest
import sacrebleu

from specbench_s2d.analysis.metrics.columns import quality_column
from specbench_s2d.analysis.metrics.pairs import Pair
from specbench_s2d.analysis.metrics.quality import metrics_of, perplexity, quality, quality_statistic
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.measure.quality import score_answer
from specbench_s2d.runs.record import Record
from tests.analysis.expected import ends
from tests.analysis.factory import make_record, of, paper_run

ANSWERS = [
    "The cat sat on the mat.", "A dog runs fast in the park today.", "It is raining again in the north.",
    "She reads the letter twice.", "No train leaves before noon today.", "The old bridge was closed for the winter.",
]  # fmt: skip
REFERENCES = [
    "The cat sat on a mat.", "The dog runs quickly in the park today.", "Again it rains in the north.",
    "She read the letter two times.", "No train departs before noon.", "For the winter the old bridge was closed.",
]  # fmt: skip


def translated(label: str = "sd", target: str = "t", answers: list[str] = ANSWERS) -> list[Record]:
    made = []
    for i, (answer, reference) in enumerate(zip(answers, REFERENCES, strict=True)):
        scored = score_answer(["chrf", "bleu"], answer, [reference])
        fields = {"quality": scored.values, "quality_counts": scored.counts, "suite": "translation", "target": target}
        made.append(make_record(label, i, **fields))
    return made


def without(items: list[str], i: int) -> list[str]:
    return [item for j, item in enumerate(items) if j != i]


def chrf(answers: list[str], references: list[str] = REFERENCES) -> float:
    return float(sacrebleu.corpus_chrf(answers, [references]).score)


LENGTHS = [float(len(reference.replace(" ", ""))) for reference in REFERENCES]
"""What each answer weighs in a corpus: its reference's characters."""


def asked(values: list[float | None]) -> list[Record]:
    """Questions of qa, None for one without a reference."""
    return [
        make_record("sd", i, quality={"f1": v}) if v is not None else
        make_record("sd", i, reasons={"quality": "the question file gives no reference answer"})
        for i, v in enumerate(values)
    ]  # fmt: skip


def test_bleu_and_chrf_are_those_of_the_corpus() -> None:
    assert quality(translated(), "bleu").value == pytest.approx(sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score)
    assert quality(translated(), "chrf").value == pytest.approx(sacrebleu.corpus_chrf(ANSWERS, [REFERENCES]).score)


def test_the_interval_of_a_corpus_score_leaves_questions_out() -> None:
    found = quality_statistic("chrf").interval([translated()])
    left = [chrf(without(ANSWERS, i), without(REFERENCES, i)) for i in range(6)]
    expected = ends(chrf(ANSWERS), left, LENGTHS, "linear")
    assert (found.low, found.high, found.questions) == (pytest.approx(expected[0]), pytest.approx(expected[1]), 6)


def test_a_target_that_one_question_alone_answers_leaves_no_interval() -> None:
    """Without that question the second target has no score, which is no score of 0."""
    found = quality_statistic("chrf").interval([translated(), translated(target="u")[:1]])
    assert (found.low, found.high) == (None, None)
    assert found.note == "no interval: without one of its questions or launches there is no value"


def with_ar(answers: list[str], others: list[str]) -> list[Pair]:
    """Both sides' translations of the same questions, paired as they are for speed."""
    return [Pair(*both) for both in zip(translated("sd", "t", answers), translated("ar", "t", others), strict=True)]


def test_a_difference_of_corpus_scores_is_that_of_both_sides_corpora_without_the_same_question() -> None:
    others = [ANSWERS[1], ANSWERS[0], *ANSWERS[2:]]
    value, _ = quality_statistic("bleu").compare([with_ar(ANSWERS, others)], "difference")
    apart = [sacrebleu.corpus_bleu(a, [REFERENCES]).score for a in (ANSWERS, others)]
    assert value.value == pytest.approx(apart[0] - apart[1])
    value, found = quality_statistic("chrf").compare([with_ar(ANSWERS, others)], "difference")
    left = [without(REFERENCES, i) for i in range(6)]
    moved = [chrf(without(ANSWERS, i), left[i]) - chrf(without(others, i), left[i]) for i in range(6)]
    expected = ends(chrf(ANSWERS) - chrf(others), moved, LENGTHS, "linear")
    assert value.value is not None and (found.low, found.high) == pytest.approx(expected)
    same, still = quality_statistic("chrf").compare([with_ar(ANSWERS, ANSWERS)], "difference")
    assert (same.value, still.low, still.note) == (0, None, "no interval: all 6 questions have the same value")


def test_a_difference_takes_only_cells_that_both_have_and_says_where_there_are_none() -> None:
    pairs = with_ar(ANSWERS, REFERENCES)
    lost = Pair(pairs[5].ours, make_record("ar", 5, suite="translation"))
    statistic = quality_statistic("chrf")
    assert statistic.compare([[*pairs[:5], lost]], "difference") == statistic.compare([pairs[:5]], "difference")
    four = statistic.compare([[*pairs[:4], lost]], "difference")[1]
    assert (four.note, four.questions) == ("n = 4: no interval from fewer than 5 questions", 4)
    for groups in ([], [[lost]], [pairs, [lost]]):
        value, interval = statistic.compare(groups, "difference")
        assert (value.value, value.note, interval.low) == (None, "no cell that both have", None)


def test_other_metrics_are_means_of_scored_answers() -> None:
    """Of a mean, the jackknife is the standard error of the mean: Student's t with n - 1 degrees of freedom."""
    values = [0.25, 0.5, 0.75, 0.5, 0.5]
    records = asked([*values, None])
    assert quality(records, "f1").value == pytest.approx(0.5)
    found = quality_statistic("f1").interval([records])
    half = 2.776 * statistics.stdev(values) / math.sqrt(5)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-3)


def test_an_interval_of_a_metric_stays_within_its_bounds() -> None:
    found = quality_statistic("f1").interval([asked([1.0, 1.0, 1.0, 1.0, 0.0])])
    assert found.low is not None and 0 < found.low < 0.8 and found.high == 1.0
    none = quality_statistic("f1").interval([asked([0.0, 0.0, 0.0, 0.0, 0.5])])
    assert none.low == 0.0


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_questions_of_one_value_have_no_interval_for_they_show_no_spread(value: float) -> None:
    found = quality_statistic("f1").interval([asked([value] * 5)])
    assert (found.low, found.high, found.questions) == (None, None, 5)
    assert found.note == "no interval: all 5 questions have the same value"


def test_no_score_has_the_records_reason() -> None:
    found = quality(asked([None, None]), "f1")
    assert found.value is None
    assert found.note == "no answer was scored by it (the question file gives no reference answer)"


def test_metrics_stand_in_the_order_of_the_registry() -> None:
    records = [make_record("sd", 0, quality={"own": 1.0, "f1": 1.0, "chrf": 1.0, "bleu": 2.0})]
    assert metrics_of(records) == ["chrf", "bleu", "f1", "own"]
    assert [quality_column(name).heading for name in metrics_of(records)] == ["chrF", "BLEU", "F1", "own"]


def test_the_tidy_table_has_value_and_interval_per_suite_and_their_mean_over_targets() -> None:
    other = translated(target="u", answers=[*ANSWERS[:2], *REFERENCES[2:]])
    table = summary_table([*translated(), *other, *asked([0.0, 1.0])])
    rows = {(row["target"], row["suite"]): row for row in table.to_dict("records")}
    assert rows["t", "translation"]["quality_bleu"] == pytest.approx(sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score)
    low, high = (rows["t", "translation"][f"quality_chrf_{end}"] for end in ("low", "high"))
    assert low < rows["t", "translation"]["quality_chrf"] < high
    assert rows["t", "translation"]["quality_chrf_n"] == 6
    assert rows["t", "qa"]["quality_f1_n"] == 2 and math.isnan(rows["t", "qa"]["quality_f1_low"])
    assert rows["t", "qa"]["quality_bleu"] != rows["t", "qa"]["quality_bleu"]  # NaN: nothing of that suite is scored so
    assert "quality_bleu: no answer was scored by it" in rows["t", "qa"]["notes"]
    means = [rows[target, "translation"]["quality_chrf"] for target in "tu"]
    assert rows["mean over targets", "translation"]["quality_chrf"] == pytest.approx(sum(means) / 2)


def test_perplexity_pools_tokens() -> None:
    run = paper_run()
    assert perplexity(of("sd", run)).value == pytest.approx(math.exp((4 + 10) / (5 + 9)))
    assert perplexity(of("ar", run)).value == pytest.approx(math.exp((3 + 4) / 14))
