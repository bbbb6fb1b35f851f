"""Rows of the field's formats as questions, and what rows that are none are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.suites import Question, load_questions
from tests.suites.files import refusal, write

USER = {"role": "user", "content": "Hi"}
HUMAN = {"from": "human", "value": "Hi"}


def asked(tmp_path: Path, row: dict[str, Any]) -> Question:
    [question] = load_questions(write(tmp_path / "file.jsonl", row))
    return question


@pytest.mark.parametrize(
    ("row", "turns", "system"),
    [
        ({"turns": ["Hi", "Ho"]}, ("Hi", "Ho"), None),
        ({"turns": ["Hi"], "system_prompt": "Be brief."}, ("Hi",), "Be brief."),
        ({"turns": ["Hi"], "system_prompt": " "}, ("Hi",), None),
        ({"messages": [USER]}, ("Hi",), None),
        ({"messages": [{"role": "system", "content": "Be brief."}, USER]}, ("Hi",), "Be brief."),
        ({"messages": [{"role": "system", "content": ""}, USER]}, ("Hi",), None),
        ({"messages": [USER], "system_prompt": "Be brief."}, ("Hi",), "Be brief."),
        ({"conversations": [HUMAN], "system": "Be brief."}, ("Hi",), "Be brief."),
        ({"turns": ["Hi"], "system": "Be brief.", "system_prompt": "Be brief."}, ("Hi",), "Be brief."),
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}, USER]}, ("Hi", "Hi"), None),
        ({"id": "x", "conversations": [HUMAN, {"from": "gpt", "value": "Hello"}, HUMAN]}, ("Hi", "Hi"), None),
        ({"conversations": [{"from": "system", "value": "Be brief."}, HUMAN]}, ("Hi",), "Be brief."),
        ({"conversations": [{"from": "gpt", "value": "Welcome"}, HUMAN]}, ("Hi",), None),
        ({"turns": None, "messages": [USER]}, ("Hi",), None),
        ({"turns": ["Hi"], "messages": None}, ("Hi",), None),
    ],
)
def test_a_row_of_a_known_format(
    tmp_path: Path, row: dict[str, Any], turns: tuple[str, ...], system: str | None
) -> None:
    assert asked(tmp_path, row) == Question(1, "custom/file", "file", turns, None, system)


@pytest.mark.parametrize("value", ["Hi", ["Hi"], [USER, {"role": "assistant", "content": "Hello"}], [HUMAN]])
def test_a_column_holds_a_text_texts_or_messages(tmp_path: Path, value: Any) -> None:
    rows = {"turns": ["not this"], "prompt": value, "system_prompt": "Be brief."}
    [question] = load_questions(write(tmp_path / "file.jsonl", rows), column="prompt")
    assert (question.turns, question.system_prompt) == (("Hi",), "Be brief.")


@pytest.mark.parametrize(
    ("reference", "kept"),
    [("Ada", ("Ada",)), (["a", "b"], ("a", "b")), ([["a", "b"]], (("a", "b"),)), (None, None), ([], ())],
)
def test_a_reference_is_a_text_or_lists(tmp_path: Path, reference: Any, kept: Any) -> None:
    assert asked(tmp_path, {"turns": ["Who?"], "reference": reference}).reference == kept


@pytest.mark.parametrize("identity", [{}, {"question_id": None}])
def test_a_row_without_an_id_has_its_line_for_one(tmp_path: Path, identity: dict[str, Any]) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('\n{"turns": ["a"]}\n\n{"turns": ["b"]}\n', encoding="utf-8")
    assert [q.id for q in load_questions(str(path))] == [2, 4]
    assert asked(tmp_path, {"turns": ["a"], **identity}).id == 1


ROLES = "user, human, assistant, gpt, chatgpt, bing, bard, model, system"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "no 'turns', 'messages' or 'conversations'; name the column that holds the prompt with --column NAME."),
        ({"turns": None}, "'turns' must be a list of one or more texts, none of them empty, got 'null'."),
        ({"messages": []}, "'messages' must be a list of messages, each with role and content (or from and value), g"),
        ({"messages": "Hi"}, "'messages' must be a list of messages"),
        ({"messages": [["user", "Hi"]]}, "'messages' must be a list of messages"),
        ({"messages": {"role": "user"}}, "'messages' must be a list of messages"),
        ({"messages": [{"content": "Hi"}]}, f"'messages', message 1: role 'null' is none of {ROLES}."),
        (
            {"messages": [USER, {"role": "tool", "content": "1"}]},
            f"'messages', message 2: role '\"tool\"' is none of {ROLES}.",
        ),
        ({"messages": [{"role": ["user"], "content": "Hi"}]}, "'messages', message 1: role '[\"user\"]' is none of"),
        ({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}, "'messages, message 1' must be a text, got"),
        ({"messages": [{"role": "user"}]}, "'messages, message 1' must be a text, got 'null'."),
        ({"messages": [{"role": "user", "content": " "}]}, "'messages' must be a list of one or more texts, none of"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "'messages' holds no message of the user"),
        ({"messages": [USER, {"role": "system", "content": "Be brief."}]}, "'messages', message 2: a system message"),
        ({"messages": [{"role": "system", "content": "a"}, USER], "system_prompt": "b"}, "two system prompts"),
        ({"turns": ["Hi"], "system": "a", "system_prompt": "b"}, "two system prompts"),
        ({"turns": [{"a": [[1]]}]}, "'turns' must be a list of one or more texts"),
        ({"turns": ["Hi"], "question_id": 10**18}, "'question_id' must be a whole number of at most 18 digits, got"),
        ({"turns": ["Hi"], "question_id": 1}, "question_id 1 is already used in line 1 (its number, for it has no"),
        ({"turns": ["a", "b"], "reference": ["a", "b", "c"]}, "'reference' must be one answer per turn (2), got"),
        (
            {"turns": ["FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE USING SPECDEC_BENCH\n\nX {q}"]},
            "a placeholder of SPEED-Bench, whose text is to be fetched: run prepare_data.py of NVIDIA's Model-Optim",
        ),
        (
            {"messages": [USER, {"role": "user", "content": "FULL BENCHMARK DATA SHOULD BE FETCHED FROM"}]},
            "a placeholder of SPEED-Bench",
        ),
    ],
)  # fmt: skip
def test_a_row_that_is_no_question_is_one_line(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    source = write(tmp_path / "q.jsonl", {"turns": ["Who?"]}, row)
    assert refusal(source, None).startswith(f"{source}:2: {said}")
