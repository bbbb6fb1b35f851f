"""`specbench-s2d suites`: the list, one suite, a file's counts, and JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from specbench_s2d.cli.suites import suites
from specbench_s2d.errors import QuestionFileError, UnknownNameError
from specbench_s2d.resources import SUITES
from specbench_s2d.suites import HEADINGS, load_suite

app = typer.Typer()
app.command()(suites)


def run(*arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "own.jsonl"
    rows = [{"question_id": i, "category": "qa", "turns": [f"[b]Who[/b] is {i}?"]} for i in (41, 42, 43)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_list_shows_every_suite_with_its_counts_metric_source_and_licence() -> None:
    shown = run()
    assert all(f"{name} v{load_suite(name).definition.version}" in shown for name in SUITES)
    assert shown.count("8 embedded") == shown.count("80 Spec-Bench") == len(SUITES)
    assert all(word in shown for word in ("chrf, bleu", "final_number", "GSM8K", "MIT", "Mathematical reasoning"))


def test_the_list_counts_the_questions_of_a_file(file: str) -> None:
    shown = run("--questions", file)
    assert shown.count("3 in own.jsonl") == 1
    assert shown.count("0 in own.jsonl") == len(SUITES) - 1


def test_a_files_own_categories_are_listed_after_the_six(tmp_path: Path) -> None:
    path = tmp_path / "code.csv"
    path.write_text("prompt\nSort a list.\nReverse it.\n", encoding="utf-8")
    shown = run("--questions", str(path), "--column", "prompt")
    assert shown.index("rag v2") < shown.index("custom/code v1") and "2 in code.csv" in shown
    assert "Reverse it." in run("custom/code", "--questions", str(path), "--column", "prompt")
    listed = json.loads(run("--json", "--questions", str(path), "--column", "prompt"))
    assert [(suite["name"], suite["from"], suite["questions_count"]) for suite in listed[-2:]] == [
        ("rag", "built-in", 0),
        ("custom/code", "question file", 2),
    ]


def test_one_suite_is_shown_with_its_questions() -> None:
    shown = run("mt_bench")
    assert "embedded-mt_bench-8" in shown
    assert "embedded-qa-1" not in shown
    assert "judge model" in shown
    assert "https://github.com/hemingkx/Spec-Bench" in shown


def test_one_suite_of_a_file_is_shown_as_the_file_gives_it(file: str) -> None:
    shown = run("qa", "--questions", file)
    assert "3 questions, own.jsonl" in shown
    assert "[b]Who[/b] is 42?" in shown


def test_a_long_question_shows_both_ends() -> None:
    shown = run("rag")
    assert "Kestrel Bridge The Kestrel Bridge" in shown
    assert "How many arches does the Kestrel Bridge have?" in shown


def test_json_lists_all_suites_and_one_with_its_questions(file: str) -> None:
    listed = json.loads(run("--json"))
    assert [suite["name"] for suite in listed] == list(SUITES)
    assert not any(HEADINGS & suite.keys() for suite in listed)
    assert all(suite["embedded_questions"] == suite["questions_count"] == 8 for suite in listed)
    one = json.loads(run("qa", "--json", "--questions", file))
    assert [q["id"] for q in one["questions"]] == [41, 42, 43]
    assert one["questions_from"] == "own.jsonl"
    assert one["hash"] == listed[SUITES.index("qa")]["hash"]
    assert one["questions_hash"] != listed[SUITES.index("qa")]["questions_hash"]


def test_mistakes_reach_the_one_place_that_prints_them(file: str) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'rag'"):
        run("rags")
    with pytest.raises(QuestionFileError, match="no questions of suite 'rag'"):
        run("rag", "--questions", file)
