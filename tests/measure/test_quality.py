"""Task quality: the field's own numbers, SQuAD's rules and final numbers worked by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from specbench_s2d.measure.quality import METRICS, final_number, last_number, pooled, score_answer, signatures

ANSWERS = ["The cat sat on the mat.", "A dog runs fast in the park today.", "", "Wholly other words"]
REFERENCES = ["The cat sat on a mat.", "The dog runs quickly in the park today.", "hello there", "nothing shared"]


@pytest.mark.parametrize(("metric", "corpus"), [("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)])
def test_pooled_scores_are_sacrebleus_corpus_scores(metric: str, corpus: object) -> None:
    counts = [score_answer([metric], a, [r]).counts[metric] for a, r in zip(ANSWERS, REFERENCES, strict=True)]
    assert callable(corpus)
    assert pooled(metric, counts) == pytest.approx(corpus(ANSWERS, [REFERENCES]).score)
    assert pooled(metric, counts) != pytest.approx(sum(pooled(metric, [row]) for row in counts) / len(counts), rel=0.01)


@pytest.mark.parametrize(("metric", "corpus"), [("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)])
def test_pooling_takes_several_references_as_sacrebleu_does(metric: str, corpus: object) -> None:
    other = ["A cat was sitting on the mat.", "A dog sprints through the park.", "hi", "yet other words"]
    counts = [
        score_answer([metric], a, [r, o]).counts[metric] for a, r, o in zip(ANSWERS, REFERENCES, other, strict=True)
    ]
    assert callable(corpus)
    assert pooled(metric, counts) == pytest.approx(corpus(ANSWERS, [REFERENCES, other]).score)


def test_one_answers_own_bleu_and_chrf_are_sentence_scores() -> None:
    values = score_answer(["bleu", "chrf"], ANSWERS[0], REFERENCES[:1]).values
    assert values["bleu"] == pytest.approx(sacrebleu.sentence_bleu(ANSWERS[0], REFERENCES[:1]).score)
    assert values["chrf"] == pytest.approx(sacrebleu.sentence_chrf(ANSWERS[0], REFERENCES[:1]).score)


def test_rouge_is_the_librarys_f_measure_of_the_best_reference() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    values = score_answer(["rouge_1", "rouge_2", "rouge_l"], ANSWERS[0], [REFERENCES[3], REFERENCES[0]]).values
    own = scorer.score(REFERENCES[0], ANSWERS[0])
    assert [values[f"rouge_{n}"] for n in "12l"] == pytest.approx([own[f"rouge{n}"].fmeasure for n in "12L"])
    assert values["rouge_1"] == pytest.approx(5 / 6)  # five of six words on both sides


@pytest.mark.parametrize(
    ("answer", "references", "exact", "overlap"),
    [
        ("The Mercury.", ["mercury"], 1.0, 1.0),
        ("It is Mercury", ["Venus", "Mercury"], 0.0, 0.5),  # 1 of 3 words, 1 of 1: 2·1/(3+1)
        ("a dog and a cat", ["dog and dog"], 0.0, 2 / 3),  # dog, and, cat beside dog, and, dog share two
        ("", ["Mercury"], 0.0, 0.0),
        (" \n", ["A", "The"], 0.0, 0.0),  # no answer is not the answer "A"
        ("A.", ["A"], 1.0, 1.0),
        ("the", ["an"], 1.0, 1.0),  # SQuAD's rule: nothing is left of either
        ("five", ["5"], 0.0, 0.0),
        ("1,000", ["1000"], 1.0, 1.0),  # punctuation goes
    ],
)
def test_squads_rules(answer: str, references: list[str], exact: float, overlap: float) -> None:
    values = score_answer(["exact_match", "f1"], answer, references).values
    assert values == {"exact_match": exact, "f1": pytest.approx(overlap)}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He pays $1,234.50.", "1234.50"),
        ("#### 1000", "1000"),
        ("first 7, then 3,4", "4"),
        ("a loss of -5", "-5"),
        ("5-3", "3"),
        ("x=-7.", "-7"),
        ("about .5", "0.5"),
        ("a loss of -.5", "-0.5"),
        ("-$1,000", "-1000"),
        ("x = −3", "-3"),  # the minus sign of mathematics
        ("$1,000, in total", "1000"),
        ("2,500, 3,500, and 4,500, respectively", "4500"),
        ("1,234,5", "5"),  # a list, not thousands
        ("1,000,000.", "1000000"),
        ("40%", "40"),
        ("12 apples", "12"),
        ("no number", None),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


def test_final_numbers_are_equal_as_numbers_and_need_one_in_the_reference() -> None:
    assert final_number("That makes 1,000.00 in all.", ["…\n#### 1000"]) == 1.0
    assert final_number("1000 or 1001", ["#### 1000"]) == 0.0
    assert final_number("I do not know", ["#### 3"]) == 0.0
    assert final_number("3", ["three"]) is None


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_scores_an_empty_answer_and_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert score_answer([name], "", ["a house of 3 rooms"]).values[name] == 0
    best = score_answer([name], "a house of 3 rooms", ["a house of 3 rooms"]).values[name]
    assert best == pytest.approx(metric.highest)
    assert metric.title and metric.what
    assert signatures([name])[name]


def test_signatures_carry_versions() -> None:
    found = signatures(["bleu", "chrf", "rouge_l"])
    assert f"version:{sacrebleu.__version__}" in found["bleu"] and "tok:13a" in found["bleu"]
    assert "nc:6" in found["chrf"] and "nrefs" not in found["chrf"]
    assert found["rouge_l"].startswith("rouge-score ")
