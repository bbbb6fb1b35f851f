"""A row of any known format as a conversation: Spec-Bench's and EAGLE's `turns`, chat `messages`, ShareGPT's
`conversations`, SPEED-Bench's rows, or one column of texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from specbench_s2d.errors import QuestionFileError
from specbench_s2d.spelling import near_names
from specbench_s2d.suites.question import Question, Reference
from specbench_s2d.suites.rows import LISTS, Row, columns, shown, shown_name

PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED"
"""What a turn of SPEED-Bench begins with whose text is to be fetched from its source."""
MOST_CHARACTERS = 5_000_000
"""Of one text: more than any context holds."""
_MOST_NAME = 200
_MOST_DIGITS = 18  # more do not fit a column of tables
_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model"), "assistant"),
    "system": "system",
}
"""The role of each name that messages give their speakers, ShareGPT's too."""


@dataclass(frozen=True)
class Given:
    """What a row gives. `category`: None where it names none. `answered`: it holds answers too, which are not asked."""

    id: int | str
    category: str | None
    turns: tuple[str, ...]
    reference: Reference
    system_prompt: str | None
    metrics: tuple[str, ...]
    answered: bool

    def question(self, suite: str, category: str) -> Question:
        """The row as a question of a suite."""
        return Question(self.id, suite, category, self.turns, self.reference, self.system_prompt, self.metrics)


def read_questions(rows: Iterable[Row], column: str | None = None) -> list[Given]:
    """Every row as a question, in order; `column`: the one that holds the prompt.

    Raises `QuestionFileError` for the first row that is none, naming it and what was expected, and for an id that two
    rows have.
    """
    found: list[Given] = []
    place_of: dict[str, str] = {}
    for row in rows:
        question = question_of(row, column)
        numbered = " (its number, for it has no question_id)" if row.values.get("question_id") is None else ""
        place = f"{row.place}{numbered}"
        if (first := place_of.setdefault(str(question.id), place)) != place:
            raise QuestionFileError(f"{row.where}: question_id {question.id!r}{numbered} is already used in {first}.")
        found.append(question)
    return found


def question_of(row: Row, column: str | None = None) -> Given:
    """One row as a question; raises `QuestionFileError` that names the field and what was expected."""
    where, values = row.where, row.values
    turns, system, answered = _conversation(row, column)
    named = {key: _text(where, key, values.get(key), MOST_CHARACTERS) for key in ("system_prompt", "system")}
    given_system = named["system_prompt"] or named["system"]
    if len({text for text in (system, *named.values()) if text}) > 1:
        raise QuestionFileError(f"{where}: two system prompts ('system_prompt', 'system', a system message); give one.")
    reference = _reference(values.get("reference"), where)
    if reference and not isinstance(reference[0], str) and len(reference) > len(turns):
        raise _unexpected(where, "reference", f"one list of answers per turn ({len(turns)})", values["reference"])
    if reference and 1 < len(turns) < len(reference):
        raise _unexpected(where, "reference", f"one answer per turn ({len(turns)})", values["reference"])
    return Given(
        _id(row),
        _text(where, "category", values.get("category"), _MOST_NAME),
        turns,
        reference,
        system or given_system,
        _metrics(where, values.get("metric")),
        answered,
    )


def _id(row: Row) -> int | str:
    """The row's own, else its number."""
    value = row.values.get("question_id")
    if value is None:
        return row.number
    known = isinstance(value, int | str) and not isinstance(value, bool)
    most = _MOST_NAME if isinstance(value, str) else _MOST_DIGITS
    if not known or value == "" or len(str(value)) > most:
        what = f"a whole number or a text of 1 to {_MOST_NAME} characters"
        what = what if isinstance(value, str) or not known else f"a whole number of at most {_MOST_DIGITS} digits"
        raise _unexpected(row.where, "question_id", what, value)
    return value  # type: ignore[no-any-return]


def _conversation(row: Row, column: str | None) -> tuple[tuple[str, ...], str | None, bool]:
    """The user's messages, the system prompt among the messages, and whether answers stand among them."""
    values = row.values
    if column is not None:
        if column not in values:
            raise QuestionFileError(
                f"{row.where}: no column {shown_name(column)}.{near_names(column, values)} There are "
                f"{columns(values)} (of a CSV file, the first line names them)."
            )
        value = values[column]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return _messages(row.where, column, value)
        return _turns(row.where, column, [value] if isinstance(value, str) else value), None, False
    known = [key for key in ("turns", "messages", "conversations") if key in values]
    if not known:
        raise QuestionFileError(
            f"{row.where}: no 'turns', 'messages' or 'conversations'; name the column that holds the prompt with "
            f"--column NAME. There are {columns(values)}."
        )
    key = next((key for key in known if values[key] is not None), known[0])
    if key == "turns":
        return _turns(row.where, key, values[key]), None, False
    return _messages(row.where, key, values[key])


def _turns(where: str, key: str, value: Any) -> tuple[str, ...]:
    if not (_is_texts(value) and value and all(turn.strip() for turn in value)):
        what = "a list of one or more texts" if key in LISTS else "a text, or a list of texts"
        raise _unexpected(where, key, f"{what}, none of them empty", value)
    for turn in value:
        if turn.startswith(PLACEHOLDER):
            raise QuestionFileError(
                f"{where}: a placeholder of SPEED-Bench, whose text is to be fetched: run prepare_data.py of "
                "NVIDIA's Model-Optimizer (examples/specdec_bench), and give the Parquet file that it writes."
            )
        if len(turn) > MOST_CHARACTERS:
            raise QuestionFileError(
                f"{where}: {key!r} holds a text of {len(turn):,} characters; at most {MOST_CHARACTERS:,} can be asked."
            )
    return tuple(value)


def _messages(where: str, key: str, value: Any) -> tuple[tuple[str, ...], str | None, bool]:
    """The user's of a list of messages; a system message may stand first. Given answers are left out."""
    if not (isinstance(value, list) and value and all(isinstance(item, dict) for item in value)):
        raise _unexpected(where, key, "a list of messages, each with role and content (or from and value)", value)
    turns, system, answered = [], None, False
    for number, message in enumerate(value):
        name = message.get("role") or message.get("from")
        role = _ROLES.get(name) if isinstance(name, str) else None
        text = message.get("content") if message.get("content") is not None else message.get("value")
        if role is None:
            raise QuestionFileError(
                f"{where}: {key!r}, message {number + 1}: role {shown(name)} is none of {', '.join(_ROLES)}."
            )
        if role == "assistant":
            answered = True
        elif not isinstance(text, str):
            raise _unexpected(where, f"{key}, message {number + 1}", "a text", text)
        elif role == "user":
            turns.append(text)
        elif number:
            raise QuestionFileError(f"{where}: {key!r}, message {number + 1}: a system message can only be the first.")
        else:
            system = _text(where, key, text, MOST_CHARACTERS)
    if not turns:
        raise QuestionFileError(f"{where}: {key!r} holds no message of the user; leave such rows out.")
    return _turns(where, key, turns), system, answered


def _text(where: str, key: str, value: Any, most: int) -> str | None:
    """A text that may be missing; None for one that is blank."""
    if value is not None and not (isinstance(value, str) and len(value) <= most):
        raise _unexpected(where, key, f"a text of at most {most:,} characters", value)
    return value if value and value.strip() else None


def _metrics(where: str, value: Any) -> tuple[str, ...]:
    """Names of metrics: one, several parted by commas, or a list."""
    names = value.split(",") if isinstance(value, str) else value if value is not None else []
    if not _is_texts(names):
        raise _unexpected(where, "metric", "the name of a metric, or a list of names", value)
    return tuple(name.strip() for name in names if name.strip())


def _reference(value: Any, where: str) -> Reference:
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if _is_texts(value):
        return tuple(value)
    if isinstance(value, list) and all(_is_texts(item) for item in value):
        return tuple(tuple(item) for item in value)
    raise _unexpected(where, "reference", "a text, a list of texts, or a list of such lists", value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _unexpected(where: str, key: str, expected: str, value: Any) -> QuestionFileError:
    return QuestionFileError(f"{where}: {key!r} must be {expected}, got {shown(value)}.")
