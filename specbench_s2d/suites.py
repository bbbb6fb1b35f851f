"""Suites: what each one is, and the questions of a run, read, checked and hashed.

A suite is a TOML definition with a few embedded questions beside it. The questions of a run come from there,
from Spec-Bench's file (the cache, else a download), or from any JSONL file of Spec-Bench's shape:

    {"question_id": 1, "category": "qa", "turns": ["Who …?"], "reference": ["…"]}

Another package adds a suite with an entry point to the path of its definition:

    [project.entry-points."specbench_s2d.suites"]
    my_suite = "my_package.suites:MY_SUITE"          # MY_SUITE = Path(__file__).parent / "my_suite.toml"
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specbench_s2d.errors import QuestionFileError, UnknownNameError, UserError, first_line
from specbench_s2d.registry import BUILT_IN, Registry
from specbench_s2d.resources import SUITES, cache_folder, data_folder

EMBEDDED = "embedded"
SPEC_BENCH = "spec-bench"
SPEC_BENCH_URL = "https://raw.githubusercontent.com/hemingkx/Spec-Bench/main/data/spec_bench/question.jsonl"
SPEC_BENCH_SHA256 = "4b6d33e79484f9841c487ee87d1cf6aa8c6066f61d5d482ff09e5a007fafdf04"

definitions = Registry("suite", {name: data_folder("suites") / f"{name}.toml" for name in SUITES})
"""Every suite by name, those of other packages too, as the path of its TOML definition."""
HEADINGS = frozenset({"heading", "short_heading"})
"""Fields of a definition that only say how tables show the suite: no part of its hash."""

# As the file gives it: absent, one list for the question, or one list per turn.
Reference = tuple[str, ...] | tuple[tuple[str, ...], ...] | None


@dataclass(frozen=True)
class Question:
    """One conversation to hold: `turns` are the user's messages, in order; `id` is unique in its file."""

    id: int | str
    suite: str
    category: str
    turns: tuple[str, ...]
    reference: Reference = None

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


class Quality(BaseModel):
    """How a suite's answers are scored: names of metrics, none where `note` says why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: tuple[str, ...]
    note: str = Field(min_length=1)


class Definition(BaseModel):
    """The fields of a suite's TOML file. `prompt = "turns"`: each turn is one user message, as it stands.

    `heading`, `short_heading`: how tables and plots head a suite that ships with the package; the name by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    title: str
    heading: str | None = None
    short_heading: str | None = None
    version: int = Field(ge=1)
    source: str
    links: tuple[str, ...] = ()
    license: str
    license_note: str = ""
    prompt: Literal["turns"] = "turns"
    categories: tuple[str, ...] = Field(min_length=1)
    questions: str | None = None
    spec_bench_questions: int = Field(0, ge=0)
    quality: Quality


@dataclass(frozen=True)
class Suite:
    """A definition and its embedded questions."""

    definition: Definition
    questions: tuple[Question, ...]

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def hash(self) -> str:
        """SHA-256 of the definition (but for its headings) and the embedded questions: changes when either does."""
        definition = self.definition.model_dump(mode="json", exclude=set(HEADINGS))
        return _hash([definition, questions_hash(self.questions)])


@dataclass(frozen=True)
class QuestionSet:
    """The questions of a run, by suite in the order asked, in file order inside each.

    `source` is `embedded`, `spec-bench` (the file is recognised by its hash, wherever it lies), or a file's name.
    """

    source: str
    by_suite: Mapping[str, tuple[Question, ...]]

    @property
    def questions(self) -> list[Question]:
        return [question for part in self.by_suite.values() for question in part]

    @property
    def hashes(self) -> dict[str, str]:
        """`questions_hash` of each suite's questions, as the manifest stores it."""
        return {suite: questions_hash(part) for suite, part in self.by_suite.items()}

    def __iter__(self) -> Iterator[Question]:
        return iter(self.questions)

    def __len__(self) -> int:
        return len(self.questions)


def questions_hash(questions: Iterable[Question]) -> str:
    """SHA-256 of the questions' ids, categories, turns and references, in order; file layout does not matter."""
    return _hash([[q.id, q.suite, q.category, q.turns, q.reference] for q in questions])


def load_suite(name: str) -> Suite:
    """The suite registered as `name`; raises `UnknownNameError` with the nearest names."""
    path = definitions.load(name)
    if not isinstance(path, str | Path):
        by = definitions.entries()[name].origin
        raise UserError(f"suite {name!r} is registered by {by} as {path!r}; expected the path of its TOML definition.")
    suite = read_suite(Path(path))
    if suite.name != name:
        raise UserError(f"{path}: defines suite {suite.name!r} but is registered as {name!r}; make them the same.")
    return suite


def sound_suites() -> list[Suite]:
    """Every registered suite but those of other packages that cannot be read (`broken_suites`)."""
    broken = broken_suites()
    return [load_suite(name) for name in definitions.paths() if name not in broken]


def broken_suites() -> dict[str, str]:
    """Why suites of other packages cannot be read, by name."""
    broken: dict[str, str] = {}
    for name, entry in definitions.entries().items():
        try:
            if entry.origin != BUILT_IN or entry.others:
                load_suite(name)
        except UserError as error:
            broken[name] = str(error)
    return broken


def read_suite(path: Path) -> Suite:
    """A suite from its TOML definition and the questions beside it; raises `UserError` naming file and place."""
    definition = read_definition(path)
    if definition.questions is None:
        return Suite(definition, ())
    file = path.parent / definition.questions
    owners = dict.fromkeys(definition.categories, definition.name)
    return Suite(definition, tuple(parse_questions(_read_bytes(file), str(file), owners)))


@cache
def suite_headings(name: str) -> tuple[str, str]:
    """How tables head a suite, in full and in a narrow column; its name for one that does not ship with the package."""
    if name not in SUITES:
        return name, name
    about = read_definition(definitions.load(name))
    return about.heading or name, about.short_heading or name


def read_definition(path: Path) -> Definition:
    """A suite's TOML file; raises `UserError` that names the file and the field."""
    try:
        return Definition.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not a readable suite definition ({error}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {field}: {first['msg']}, got {str(first['input'])[:80]!r}.") from error


def load_questions(source: str, suites: Sequence[str] | None = None, limit: int | None = None) -> QuestionSet:
    """The questions of `suites` from `embedded`, `spec-bench`, or a JSONL file; at most `limit` of each suite.

    Without `suites`: every registered suite that can be read, with or without questions in the source. Raises
    `QuestionFileError` for a file that cannot be used, or that has no question of a suite that was asked for.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: give a whole number of questions per suite, 1 or more.")
    asked = sound_suites() if suites is None else [load_suite(name) for name in dict.fromkeys(suites)]
    if source == EMBEDDED:
        label, found = EMBEDDED, {suite.name: suite.questions for suite in asked}
    else:
        label, found = _questions_of_file(source, asked)
    for name, part in found.items():
        if suites is not None and not part:
            raise QuestionFileError(
                f"{source}: no questions of suite {name!r}; leave that suite out, or give a file that has them."
            )
    return QuestionSet(label, {name: part[:limit] for name, part in found.items()})


def _questions_of_file(source: str, asked: Sequence[Suite]) -> tuple[str, dict[str, tuple[Question, ...]]]:
    path = _spec_bench_file() if source == SPEC_BENCH else Path(source)
    content = _read_bytes(path)
    questions = parse_questions(content, str(path), category_owners(asked))
    known = hashlib.sha256(content).hexdigest() == SPEC_BENCH_SHA256
    return (
        SPEC_BENCH if known else path.name,
        {suite.name: tuple(q for q in questions if q.suite == suite.name) for suite in asked},
    )


def category_owners(asked: Sequence[Suite]) -> dict[str, str]:
    """Category → suite, over every registered suite; raises `UserError` where two of those asked for claim one."""
    asked_names = {suite.name for suite in asked}
    others = [suite for suite in sound_suites() if suite.name not in asked_names]
    owners = {category: suite.name for suite in others for category in suite.definition.categories}
    taken: dict[str, str] = {}
    for suite in asked:
        for category in suite.definition.categories:
            if category in taken:
                raise UserError(
                    f"suites {taken[category]!r} and {suite.name!r} both take category {category!r}; ask for one."
                )
            taken[category] = suite.name
    return {**owners, **taken}


def _spec_bench_file() -> Path:
    """Spec-Bench's questions in the cache: downloaded once, checked by SHA-256, in place whole or not at all."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    folder = cache_folder() / "spec_bench"
    try:
        return Path(pooch.retrieve(SPEC_BENCH_URL, f"sha256:{SPEC_BENCH_SHA256}", "question.jsonl", folder))
    except (OSError, ValueError) as error:
        raise QuestionFileError(
            f"{SPEC_BENCH_URL} could not be downloaded to {folder} ({_root_cause(error)}). "
            "Give Spec-Bench's question.jsonl by path: --questions FILE."
        ) from error


def _root_cause(error: BaseException) -> str:
    """What went wrong first, in one line: a client wraps "connection refused" in several errors of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return first_line(error).rstrip(".")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise QuestionFileError(
            f"{path}: no such file; give a JSONL question file, '{EMBEDDED}' or '{SPEC_BENCH}'."
        ) from None
    except IsADirectoryError:
        raise QuestionFileError(f"{path}: a folder; give the JSONL question file inside it.") from None
    except (OSError, ValueError) as error:
        raise QuestionFileError(f"{path}: the question file cannot be read ({error}).") from error


def parse_questions(content: bytes, name: str, owners: Mapping[str, str]) -> list[Question]:
    """Every question of a JSONL file, in file order; `owners` maps each category to its suite.

    Raises `QuestionFileError` for the first line that is not a question, naming it and what was expected.
    """
    if content.startswith(b"\xef\xbb\xbf"):
        raise QuestionFileError(f"{name}:1: starts with a byte order mark; save the file as UTF-8 without one.")
    questions: list[Question] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        question = _parse_question(line, f"{name}:{number}", owners)
        first = line_of.setdefault(str(question.id), number)
        if first != number:
            raise QuestionFileError(f"{name}:{number}: question_id {question.id!r} is already used in line {first}.")
        questions.append(question)
    if not questions:
        raise QuestionFileError(f"{name}: empty; expected one JSON question per line.")
    return questions


def _parse_question(line: bytes, where: str, owners: Mapping[str, str]) -> Question:
    row = _parse_object(line, where)
    missing = [key for key in ("question_id", "category", "turns") if key not in row]
    if missing:
        raise QuestionFileError(
            f"{where}: no {' and no '.join(repr(key) for key in missing)}; "
            "expected question_id, category, turns, and maybe reference."
        )
    question_id, category, turns = row["question_id"], row["category"], row["turns"]
    if isinstance(question_id, bool) or not isinstance(question_id, int | str) or question_id == "":
        raise _unexpected(where, "question_id", "a whole number or a text", question_id)
    if not isinstance(category, str):
        raise _unexpected(where, "category", "a text", category)
    if category not in owners:
        raise QuestionFileError(f"{where}: {UnknownNameError.of('category', category, owners)}")
    if not (_is_texts(turns) and turns and all(turn.strip() for turn in turns)):
        raise _unexpected(where, "turns", "a list of one or more texts, none of them empty", turns)
    reference = _reference(row.get("reference"), where)
    if reference and not isinstance(reference[0], str) and len(reference) > len(turns):
        raise _unexpected(where, "reference", f"one list of answers per turn ({len(turns)})", row["reference"])
    return Question(question_id, owners[category], category, tuple(turns), reference)


def _parse_object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
        json.dumps(row, ensure_ascii=False).encode("utf-8")  # half of an escaped surrogate pair is no text either
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise QuestionFileError(f"{where}: not UTF-8 text ({error.reason}); save the file as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise QuestionFileError(f"{where}: not a JSON object ({error}), got {_shown(line)}.") from error
    if not isinstance(row, dict):
        raise QuestionFileError(f"{where}: expected one JSON object per line, got {_shown(row)}.")
    return row


def _reference(value: Any, where: str) -> Reference:
    if value is None:
        return None
    if _is_texts(value):
        return tuple(value)
    if isinstance(value, list) and all(_is_texts(item) for item in value):
        return tuple(tuple(item) for item in value)
    raise _unexpected(where, "reference", "a list of texts, or a list of such lists", value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _unexpected(where: str, key: str, expected: str, value: Any) -> QuestionFileError:
    return QuestionFileError(f"{where}: {key!r} must be {expected}, got {_shown(value)}.")


def _shown(value: Any) -> str:
    shown = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else json.dumps(value)
    return repr(shown if len(shown) <= 60 else f"{shown[:60]}…")


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
