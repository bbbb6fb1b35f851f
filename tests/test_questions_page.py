"""docs/questions.md: every example is read, and says what the page says of it."""

from __future__ import annotations

from pathlib import Path

from specbench_s2d.suites import Question, load_questions
from tests.documents import ROOT, blocks

PAGE = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")


def test_each_example_is_what_the_page_says(tmp_path: Path) -> None:
    found: list[list[Question]] = []
    for block in blocks(PAGE, "json"):
        (tmp_path / "mine.jsonl").write_text(block, encoding="utf-8")
        found.append(load_questions(str(tmp_path / "mine.jsonl")).questions)
    assert [[q.suite for q in questions] for questions in found] == [
        ["mt_bench", "qa"],
        ["custom/mine"],
        ["custom/capitals"],
        ["custom/mine"],
        ["custom/mine"],
        ["qa", "custom/mine"],
    ]
    [capital], [sky], [share] = found[2:5]
    assert (capital.system_prompt, capital.reference, capital.metrics) == (
        "One word.",
        ("N'Djamena",),
        ("exact_match",),
    )
    assert (sky.system_prompt, sky.turns) == ("Be brief.", ("Why is the sky blue?",))
    assert share.turns == ("Hi", "Who are you?")


def test_the_csv_example_is_what_the_page_says(tmp_path: Path) -> None:
    [block] = blocks(PAGE, "csv")
    (tmp_path / "prompts.csv").write_text(block, encoding="utf-8")
    first, second = load_questions(str(tmp_path / "prompts.csv"), column="prompt")
    assert first == Question(
        1, "custom/prompts", "prompts", ("What is the capital of France?",), ("Paris",)
    )  # fmt: skip
    assert (second.turns, second.reference) == (("Write a haiku about rain, please.",), None)
