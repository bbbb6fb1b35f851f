"""Question files as tests write them, and what a refused one is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.errors import QuestionFileError
from specbench_s2d.suites import load_questions

GOOD = {"question_id": 1, "category": "qa", "turns": ["Who?"], "reference": ["Ada"]}


def write(path: Path, *rows: dict[str, Any]) -> str:
    """Rows as JSON Lines; the file's path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def refusal(source: str, suite: str | None = "qa", column: str | None = None) -> str:
    """The message that a question file is refused with; always one line."""
    with pytest.raises(QuestionFileError) as caught:
        load_questions(source, suite and [suite], column=column)
    message = str(caught.value)
    assert "\n" not in message
    return message
