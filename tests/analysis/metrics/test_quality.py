"""Task quality of a row: means of answers' scores, corpus scores of their counts, reasons where there is neither."""

from __future__ import annotations

import math

import pytest
import sacrebleu

from specbench_s2d.analysis.metrics.columns import quality_column
from specbench_s2d.analysis.metrics.pairs import Pair
from specbench_s2d.analysis.metrics.quality import metrics_of, perplexity, quality, quality_statistic
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.measure.quality import score_answer
from specbench_s2d.runs.record import Record
from tests.analysis.factory import make_record, of, paper_run

ANSWERS = ["The cat sat on the mat.", "A dog runs fast in the park today.", "It is raining again in the north."]
REFERENCES = ["The cat sat on a mat.", "The dog runs quickly in the park today.", "Again it rains in the north."]


def translated(label: str = "sd", target: str = "t", answers: list[str] = ANSWERS) -> list[Record]:
    made = []
    for i, (answer, reference) in enumerate(zip(answers, REFERENCES, strict=True)):
        scored = score_answer(["chrf", "bleu"], answer, [reference])
        fields = {"quality": scored.values, "quality_counts": scored.counts, "suite": "translation", "target": target}
        made.append(make_record(label, i, **fields))
    return made


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


def test_the_interval_of_a_corpus_score_resamples_its_questions() -> None:
    """Two questions: the ends are either one's alone."""
    two = translated()[:2]
    found = quality_statistic("chrf").interval([two])
    alone = sorted(sacrebleu.corpus_chrf([a], [[r]]).score for a, r in zip(ANSWERS[:2], REFERENCES[:2], strict=True))
    assert [found.low, found.high] == pytest.approx(alone)


def test_a_draw_that_leaves_a_target_without_answers_counts_for_nothing_not_as_a_score_of_0() -> None:
    """The second target lacks question 1, so draws of it alone say nothing of the mean."""
    two, one = translated()[:2], translated(target="u")[:1]
    first, second = (sacrebleu.corpus_chrf([a], [[r]]).score for a, r in zip(ANSWERS[:2], REFERENCES[:2], strict=True))
    found = quality_statistic("chrf").interval([two, one])
    assert found.low == pytest.approx((sacrebleu.corpus_chrf(ANSWERS[:2], [REFERENCES[:2]]).score + first) / 2)
    assert found.low is not None and found.low > second > 0
    assert found.high == pytest.approx(first)


def with_ar(answers: list[str], others: list[str]) -> list[Pair]:
    """Both sides' translations of the same questions, paired as they are for speed."""
    return [Pair(*both) for both in zip(translated("sd", "t", answers), translated("ar", "t", others), strict=True)]


def test_a_difference_of_corpus_scores_is_that_of_both_sides_corpora_on_the_same_draw() -> None:
    """Two questions, so the ends are the differences on either alone; nothing moves against oneself."""
    others = [ANSWERS[1], ANSWERS[0], ANSWERS[2]]
    value, _ = quality_statistic("bleu").compare([with_ar(ANSWERS, others)], "difference", 10)
    apart = [sacrebleu.corpus_bleu(a, [REFERENCES]).score for a in (ANSWERS, others)]
    assert value.value == pytest.approx(apart[0] - apart[1])
    _, interval = quality_statistic("chrf").compare([with_ar(ANSWERS, others)[:2]], "difference", 1_000)
    alone = [[sacrebleu.corpus_chrf([a[i]], [[REFERENCES[i]]]).score for a in (ANSWERS, others)] for i in (0, 1)]
    assert [interval.low, interval.high] == pytest.approx(sorted(ours - theirs for ours, theirs in alone))
    same, still = quality_statistic("chrf").compare([with_ar(ANSWERS, ANSWERS)], "difference", 100)
    assert (same.value, still.low, still.high) == (0, 0, 0)


def test_a_difference_takes_only_cells_that_both_have_and_says_where_there_are_none() -> None:
    pairs = with_ar(ANSWERS, REFERENCES)
    lost = Pair(pairs[2].ours, make_record("ar", 2, suite="translation"))
    chrf = quality_statistic("chrf")
    assert chrf.compare([[*pairs[:2], lost]], "difference", 50) == chrf.compare([pairs[:2]], "difference", 50)
    assert quality_statistic("chrf").compare([pairs[:1]], "difference", 50)[1].note == "no interval from 1 question"
    for groups in ([], [[lost]], [pairs, [lost]]):
        value, interval = quality_statistic("chrf").compare(groups, "difference", 50)
        assert (value.value, value.note, interval.low) == (None, "no cell that both have", None)


def test_other_metrics_are_means_of_scored_answers() -> None:
    records = asked([0.0, 0.5, None, 1.0])
    assert quality(records, "f1").value == pytest.approx(0.5)
    found = quality_statistic("f1").interval([records[:2]])
    assert (found.low, found.high) == (0.0, 0.5)


def test_no_score_has_the_records_reason() -> None:
    found = quality(asked([None, None]), "f1")
    assert found.value is None
    assert found.note == "no answer was scored by it (the question file gives no reference answer)"


def test_metrics_stand_in_the_order_of_the_registry() -> None:
    records = [make_record("sd", 0, quality={"own": 1.0, "f1": 1.0, "chrf": 1.0, "bleu": 2.0})]
    assert metrics_of(records) == ["chrf", "bleu", "f1", "own"]
    assert [quality_column(name).heading for name in metrics_of(records)] == ["chrF", "BLEU", "F1", "own"]


def test_the_tidy_table_has_value_and_interval_per_suite_and_their_mean_over_targets() -> None:
    other = translated(target="u", answers=[ANSWERS[0], *REFERENCES[1:]])
    table = summary_table([*translated(), *other, *asked([0.0, 1.0])])
    rows = {(row["target"], row["suite"]): row for row in table.to_dict("records")}
    assert rows["t", "translation"]["quality_bleu"] == pytest.approx(sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score)
    low, high = (rows["t", "translation"][f"quality_chrf_{end}"] for end in ("low", "high"))
    assert low < rows["t", "translation"]["quality_chrf"] < high
    assert rows["t", "qa"]["quality_bleu"] != rows["t", "qa"]["quality_bleu"]  # NaN: nothing of that suite is scored so
    assert "quality_bleu: no answer was scored by it" in rows["t", "qa"]["notes"]
    means = [rows[target, "translation"]["quality_chrf"] for target in "tu"]
    assert rows["mean over targets", "translation"]["quality_chrf"] == pytest.approx(sum(means) / 2)


def test_perplexity_pools_tokens() -> None:
    run = paper_run()
    assert perplexity(of("sd", run)).value == pytest.approx(math.exp((4 + 10) / (5 + 9)))
    assert perplexity(of("ar", run)).value == pytest.approx(math.exp((3 + 4) / 14))
