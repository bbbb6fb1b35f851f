"""`Question`: what is asked, and the hash of many."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# As the file gives it: absent, one list for the question, or one list per turn.
Reference = tuple[str, ...] | tuple[tuple[str, ...], ...] | None


@dataclass(frozen=True)
class Question:
    """One conversation to hold: `turns` are the user's messages, in order; `id` is unique in its file.

    `system_prompt`: what the conversation begins with, None for nothing. `metrics`: names of those that the file scores
    this question by, in place of its suite's; empty for the suite's.
    """

    id: int | str
    suite: str
    category: str
    turns: tuple[str, ...]
    reference: Reference = None
    system_prompt: str | None = None
    metrics: tuple[str, ...] = ()

    def answers(self, turn: int = 0) -> tuple[str, ...]:
        """The reference answers of one turn, any of which is right; empty where the file gives none.

        A flat list holds the alternatives of a single turn, or one answer for each of several turns; a nested list
        holds the alternatives of each turn.
        """
        given = self.reference or ()
        if len(self.turns) == 1 and all(isinstance(item, str) for item in given):
            alternatives: Iterable[Any] = given
        else:
            item = given[turn] if turn < len(given) else ()
            alternatives = (item,) if isinstance(item, str) else item
        return tuple(answer for answer in alternatives if answer.strip())


def questions_hash(questions: Iterable[Question]) -> str:
    """SHA-256 of the questions' ids, categories, turns and references, in order, and of system prompts and metrics
    where there are any; file layout does not matter."""
    return hash_of([[q.id, q.suite, q.category, q.turns, q.reference, *_more(q)] for q in questions])


def _more(question: Question) -> list[dict[str, Any]]:
    """What only some questions have: nothing for the others, whose hash it must not change."""
    more = {"system_prompt": question.system_prompt, "metrics": question.metrics}
    given = {name: value for name, value in more.items() if value}
    return [given] if given else []


def hash_of(value: Any) -> str:
    """SHA-256 of a value as compact JSON."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
