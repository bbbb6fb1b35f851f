"""Which answers are scored, by what, and why the others are not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench import runner
from specbench_s2d.bench.grader import AnswerScorer
from specbench_s2d.bench.plan import Plan
from specbench_s2d.config import SUITES
from specbench_s2d.errors import UnknownNameError
from specbench_s2d.measure.quality import METRICS, squad_words
from specbench_s2d.runs import folder as store
from specbench_s2d.runs.record import Record
from specbench_s2d.suites import Question, load_questions
from tests.plugins import Plugins
from tests.refusals import refused
from tests.tiny_run import tiny_plan

SCORER = AnswerScorer(SUITES)


def question(suite: str, reference: object, turns: tuple[str, ...] = ("ask",)) -> Question:
    return Question(f"{suite}-{reference}", suite, suite, turns, reference)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("suite", "metrics"),
    [
        ("translation", {"chrf", "bleu"}),
        ("summarization", {"rouge_1", "rouge_2", "rouge_l"}),
        ("qa", {"exact_match", "f1"}),
        ("rag", {"exact_match", "f1"}),
        ("math_reasoning", {"final_number"}),
    ],
)
def test_a_suites_answers_are_scored_by_its_own_metrics(suite: str, metrics: set[str]) -> None:
    grade = SCORER.score(question(suite, ("It is 5",)), 0, "It is 5")
    assert grade.values is not None and set(grade.values) == metrics
    assert all(grade.values.values())
    assert (grade.counts is not None) == (suite == "translation")
    assert not grade.reasons


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (question("mt_bench", ("an answer",)), "suite mt_bench is not scored: open answers"),
        (question("qa", None), "the question file gives no reference answer"),
        (question("qa", ()), "the question file gives an empty reference"),
        (question("qa", ("", " ")), "the question file gives an empty reference"),
        (question("rag", ((),)), "the question file gives an empty reference"),
        (question("math_reasoning", ("three",)), "the reference gives nothing to score by: final_number"),
    ],
)
def test_what_is_not_scored_says_why(asked: Question, why: str) -> None:
    grade = SCORER.score(asked, 0, "3")
    assert grade.values in (None, {"final_number": None})
    assert why in grade.reasons["quality"]


def test_each_turn_has_its_own_reference() -> None:
    asked = question("qa", ("red", "blue"), ("first", "second"))
    assert [(SCORER.score(asked, turn, "blue").values or {})["exact_match"] for turn in (0, 1)] == [0.0, 1.0]


def test_a_turn_past_the_last_reference_has_none() -> None:
    asked = question("qa", ("red",), ("first", "second"))
    assert "no reference answer for this turn" in SCORER.score(asked, 1, "red").reasons["quality"]


def test_of_nested_references_any_is_right() -> None:
    asked = question("rag", (("five", "5"),))
    assert (SCORER.score(asked, 0, "5").values or {})["exact_match"] == 1.0


def test_the_same_answer_is_scored_once() -> None:
    asked = question("qa", ("once",))
    assert SCORER.score(asked, 0, "once") is SCORER.score(asked, 0, "once")


def _raises(answer: str, references: object) -> float:
    raise KeyError(answer)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (_raises, "metric f1 raised KeyError: '3'"),
        (lambda *_: float("nan"), "metric f1 gave nan, which is no finite number"),
        (lambda *_: "high", "metric f1 gave 'high', which is no finite number"),
        (lambda *_: True, "metric f1 gave True, which is no finite number"),
        (lambda *_: None, "the reference gives nothing to score by: f1"),
    ],
)
def test_a_metric_that_gives_no_number_is_null_with_the_reason(
    value: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "f1", replace(METRICS["f1"], value=value))
    scored = AnswerScorer(["qa"]).score(question("qa", ("3",)), 0, "3")
    assert scored.values == {"exact_match": 1.0, "f1": None}
    assert scored.reasons == {"quality": why}


def test_an_unknown_metric_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins(tmp_path / "site", monkeypatch).add_suite("prose", ["prose"], metrics=("rogue_l",))
    with refused(UnknownNameError, "unknown metric 'rogue_l'. Did you mean 'rouge_l'", "suite 'prose'"):
        AnswerScorer(["prose"])


def test_a_row_may_name_its_own_metrics() -> None:
    asked = Question(1, "custom/code", "code", ("Who?",), ("Ada",), metrics=("f1", "exact_match"))
    scorer = AnswerScorer(["custom/code"], [asked])
    assert scorer.score(asked, 0, "Ada").values == {"f1": 1.0, "exact_match": 1.0}
    assert set(scorer.signatures()) == {"f1", "exact_match"}
    plain = scorer.score(replace(asked, id=2, metrics=()), 0, "Ada")
    assert plain.reasons == {"quality": "suite custom/code is not scored: the file names no metric for it"}
    with refused(UnknownNameError, "unknown metric 'rogue_l'. Did you mean 'rouge_l'", "In a row of the question file"):
        AnswerScorer(["custom/code"], [replace(asked, metrics=("rogue_l",))])


def test_all_embedded_questions_but_mt_benchs_are_scored() -> None:
    scored = Counter(q.suite for q in load_questions("embedded") if SCORER.score(q, 0, "An answer: 5").values)
    assert scored == {suite: 8 for suite in SUITES if suite != "mt_bench"}


@pytest.mark.data
def test_spec_benchs_questions_are_scored_where_it_gives_references(spec_bench_file: Path) -> None:
    asked = load_questions(str(spec_bench_file), SUITES)
    # Answered with its own reference, every question has full marks: none is dropped, none is misread.
    grades = {q.id: SCORER.score(q, 0, (q.answers() or ("An answer",))[0]) for q in asked}
    scored = Counter(q.suite for q in asked if grades[q.id].values)
    for values in (grade.values for grade in grades.values() if grade.values):
        assert values == {metric: pytest.approx(METRICS[metric].highest) for metric in values}
    assert scored == {"translation": 80, "summarization": 80, "math_reasoning": 80, "rag": 80}
    assert not any(grades[q.id].reasons for q in asked if grades[q.id].values)
    assert all("quality" in grades[q.id].reasons for q in asked if not grades[q.id].values)


# From a run to its records


ASKED: list[dict[str, Any]] = [
    {"question_id": 1, "category": "qa", "turns": ["Who was it?", "And when?"]},
    {"question_id": 2, "category": "translation", "turns": ["Guten Tag."], "reference": ["Good day."]},
    {"question_id": 3, "category": "writing", "turns": ["Tell a story."], "reference": ["A story."]},
]


def plan_of(folder: Path, models: Path, qa_reference: list[str] | None = None) -> Plan:
    """AR and SD over `ASKED`, the question of suite qa with the references given."""
    file = folder.parent / f"{folder.name}.jsonl"
    rows = [{**ASKED[0], "reference": qa_reference}, *ASKED[1:]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = {"suite": ["qa", "translation", "mt_bench"], "questions": str(file), "limit": None}
    return tiny_plan(models, ["ar", "sd:gamma=3"], **asked, max_new_tokens=12)


def run(folder: Path, models: Path, qa_reference: list[str] | None = None) -> list[Record]:
    return runner.execute(plan_of(folder, models, qa_reference), folder).records


def test_records_carry_their_answers_scores_or_the_reason(tiny_models: Path, tmp_path: Path) -> None:
    records = run(tmp_path / "run", tiny_models)
    assert len(records) == 8
    asked = {row["question_id"]: row for row in ASKED}
    for r in records:
        given = Question(r.question_id, r.suite, r.category, ("ask",), tuple(asked[r.question_id].get("reference", ())))
        expected = SCORER.score(given, 0, r.output_text or "")
        assert (r.quality, r.quality_counts) == (expected.values, expected.counts)
        assert (r.quality is None) == ("quality" in r.reasons) == (r.suite != "translation")
    signatures = store.read_manifest(tmp_path / "run")["quality_metrics"]
    assert set(signatures) == {"exact_match", "f1", "chrf", "bleu"}
    assert plan_of(tmp_path / "run", tiny_models).scorer.signatures() == signatures


def test_a_turns_answer_is_scored_by_that_turns_reference(tiny_models: Path, tmp_path: Path) -> None:
    said = [r.output_text or "" for r in run(tmp_path / "first", tiny_models) if (r.suite, r.label) == ("qa", "ar")]
    assert squad_words(said[0]) != squad_words(said[1]), "the two turns must differ"
    for references, right in ((said, 1.0), (said[::-1], 0.0)):
        records = run(tmp_path / f"right-{right}", tiny_models, references)
        assert {(r.quality or {})["exact_match"] for r in records if r.suite == "qa"} == {right}


def test_a_run_folder_from_before_there_were_scores_goes_on(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    expected = run(folder, tiny_models)
    old = [r.model_dump(exclude={"quality", "quality_counts"}) for r in expected[:-1]]
    (folder / store.RECORDS).write_text("".join(json.dumps(row) + "\n" for row in old), encoding="utf-8")
    manifest = store.read_manifest(folder)
    signatures = manifest.pop("quality_metrics")
    (folder / store.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    again = run(folder, tiny_models)
    assert [r.key for r in again] == [r.key for r in expected]
    assert {(r.quality, r.quality_counts) for r in again[:-1]} == {(None, None)}
    assert (again[-1].quality, again[-1].reasons) == (expected[-1].quality, expected[-1].reasons)
    assert store.read_manifest(folder)["quality_metrics"] == signatures
