"""Which answers are scored, by what, and why the others are not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from specbench_s2d.bench.grading import Grader
from specbench_s2d.config import SUITES
from specbench_s2d.errors import UnknownNameError
from specbench_s2d.suites import MT_BENCH, Question, load_questions
from tests.refusals import refused

GRADER = Grader(SUITES)


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
    grade = GRADER.grade(question(suite, ("It is 5",)), 0, "It is 5")
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
    grade = GRADER.grade(asked, 0, "3")
    assert grade.values in (None, {"final_number": None})
    assert why in grade.reasons["quality"]


def test_each_turn_has_its_own_reference() -> None:
    asked = question("qa", ("red", "blue"), ("first", "second"))
    assert [(GRADER.grade(asked, turn, "blue").values or {})["exact_match"] for turn in (0, 1)] == [0.0, 1.0]


def test_of_nested_references_any_is_right() -> None:
    asked = question("rag", (("five", "5"),))
    assert (GRADER.grade(asked, 0, "5").values or {})["exact_match"] == 1.0


def test_the_same_answer_is_scored_once() -> None:
    asked = question("qa", ("once",))
    assert GRADER.grade(asked, 0, "once") is GRADER.grade(asked, 0, "once")


def test_an_unknown_metric_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "mt_bench.toml"
    broken.write_text(MT_BENCH.read_text().replace("metrics = []", 'metrics = ["rogue_l"]'))
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "mt_bench.jsonl").write_bytes(
        (MT_BENCH.parent / "questions" / "mt_bench.jsonl").read_bytes()
    )
    monkeypatch.setattr("specbench_s2d.suites.MT_BENCH", broken)
    with refused(UnknownNameError, "unknown metric 'rogue_l'. Did you mean 'rouge_l'", "suite 'mt_bench'"):
        Grader(["mt_bench"])


def test_all_embedded_questions_but_mt_benchs_are_scored() -> None:
    scored = Counter(q.suite for q in load_questions("embedded") if GRADER.grade(q, 0, "An answer: 5").values)
    assert scored == {suite: 8 for suite in SUITES if suite != "mt_bench"}


@pytest.mark.data
def test_spec_benchs_questions_are_scored_where_it_gives_references(spec_bench_file: Path) -> None:
    asked = load_questions(str(spec_bench_file), SUITES)
    grades = {q.id: GRADER.grade(q, 0, "An answer: 5") for q in asked}
    scored = Counter(q.suite for q in asked if grades[q.id].values)
    assert scored == {"translation": 80, "summarization": 80, "math_reasoning": 80, "rag": 80}
    assert not any(grades[q.id].reasons for q in asked if grades[q.id].values)
    assert all("quality" in grades[q.id].reasons for q in asked if not grades[q.id].values)
