"""What each suite is: its TOML definition with the questions embedded beside it, or a question file's own category.

Another package adds a suite with an entry point to the path of its definition:

    [project.entry-points."specbench_s2d.suites"]
    my_suite = "my_package.suites:MY_SUITE"          # MY_SUITE = Path(__file__).parent / "my_suite.toml"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specbench_s2d.display import cut
from specbench_s2d.errors import QuestionFileError, UnknownNameError, UserError, find_name
from specbench_s2d.registry import BUILT_IN, Registry
from specbench_s2d.resources import SUITES, data_folder
from specbench_s2d.suites.formats import read_questions
from specbench_s2d.suites.question import Question, hash_of, questions_hash
from specbench_s2d.suites.rows import read_file, read_rows

CUSTOM = "custom/"
"""What the name of a suite begins with that is a question file's own category."""
_NARROW, _WIDE = 20, 40
"""Characters of a heading in a narrow column, and in any other."""
QUESTION_FILE = "question file"
"""Where such a suite comes from, in place of a package."""

definitions = Registry("suite", {name: data_folder("suites") / f"{name}.toml" for name in SUITES})
"""Every suite by name, those of other packages too, as the path of its TOML definition."""
HEADINGS = frozenset({"heading", "short_heading", "also", "turns_each"})
"""Fields of a definition that say how people and tables call the suite and which files have it: no part of its hash."""


class Quality(BaseModel):
    """How a suite's answers are scored: names of metrics, none where `note` says why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: tuple[str, ...]
    note: str = Field(min_length=1)


class Definition(BaseModel):
    """The fields of a suite's TOML file. `prompt = "turns"`: each turn is one user message, as it stands.

    `heading`, `short_heading`: how tables and plots head a suite that ships with the package; the name by default.
    `also`: other names that people ask for it by.
    `turns_each`: a question file has the suite's questions where all those of its categories have so many turns, or
    where the suite is asked for; without it, they are the suite's in any case.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    title: str
    heading: str | None = None
    short_heading: str | None = None
    also: tuple[str, ...] = ()
    version: int = Field(ge=1)
    source: str
    links: tuple[str, ...] = ()
    license: str
    license_note: str = ""
    prompt: Literal["turns"] = "turns"
    categories: tuple[str, ...] = Field(min_length=1)
    turns_each: int | None = Field(None, ge=1)
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
        """SHA-256 of the definition (but for `HEADINGS`) and the embedded questions: changes when either does."""
        definition = self.definition.model_dump(mode="json", exclude=set(HEADINGS))
        return hash_of([definition, questions_hash(self.questions)])


def load_suite(name: str) -> Suite:
    """The suite that `name` means: a registered one, or that of a question file's own category, `custom/NAME`; raises
    `UnknownNameError` with the nearest names."""
    if name.startswith(CUSTOM):
        return _custom_suite(name)
    name = _registered(name)
    path = definitions.load(name)
    if not isinstance(path, str | Path):
        by = definitions.entries()[name].origin
        raise UserError(f"suite {name!r} is registered by {by} as {path!r}; expected the path of its TOML definition.")
    suite = read_suite(Path(path))
    if suite.name != name:
        raise UserError(f"{path}: defines suite {suite.name!r} but is registered as {name!r}; make them the same.")
    return suite


def _registered(name: str) -> str:
    """The registered suite that a name means; `also` of every definition is read where none has that name."""
    if name in (known := definitions.entries()):
        return name
    others = {other: suite.name for suite in sound_suites() for other in suite.definition.also}
    return find_name("suite", name, known, "Or custom/NAME, a category of the question file's own.", others)


def sound_suites() -> list[Suite]:
    """Every registered suite but those of other packages that cannot be read (`broken_suites`)."""
    sound = []
    for name, entry in definitions.entries().items():
        if entry.origin == BUILT_IN and not entry.others:
            sound.append(read_suite(Path(entry.path)))
            continue
        with suppress(UserError):
            sound.append(load_suite(name))
    return sound


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
    rows = read_rows(read_file(file), str(file))
    questions = []
    for row, given in zip(rows, read_questions(rows), strict=True):
        if given.category not in definition.categories:
            unknown = UnknownNameError.of("category", str(given.category), definition.categories)
            raise QuestionFileError(f"{row.where}: {unknown}")
        questions.append(given.question(definition.name, given.category))
    return Suite(definition, tuple(questions))


def custom_name(category: str) -> str:
    """The suite of a category that no registered suite has: its letters, digits, `_`, `.` and `-` survive, anything
    else becomes `_`."""
    return CUSTOM + re.sub(r"[^\w.-]", "_", category.strip())


def _custom_suite(name: str) -> Suite:
    category = name.removeprefix(CUSTOM)
    if not category or custom_name(category) != name:
        raise UserError(f"suite {name!r}: write {custom_name(category or 'NAME')}; a name holds no other characters.")
    quality = _quality_of(category)
    return Suite(
        Definition(
            name=name,
            title=f"Questions of category {category}",
            version=1,
            source=QUESTION_FILE,
            license="that of the file",
            categories=(category,),
            quality=quality,
        ),
        (),
    )


@cache
def _quality_of(category: str) -> Quality:
    """The metrics of the suite that ships with the package and has a category of that name; else none."""
    for name in SUITES:
        about = read_definition(definitions.load(name))
        if category in about.categories and about.quality.metrics:
            return Quality(metrics=about.quality.metrics, note=f"Scored as {name}. {about.quality.note}")
    return Quality(metrics=(), note="The file names no metric for it.")


@cache
def suite_headings(name: str) -> tuple[str, str]:
    """How tables head a suite, in full and in a narrow column; its name for one that does not ship with the package."""
    if name not in SUITES:
        return cut(name, _WIDE), cut(name.removeprefix(CUSTOM), _NARROW)
    about = read_definition(definitions.load(name))
    return about.heading or name, about.short_heading or name


def read_definition(path: Path) -> Definition:
    """A suite's TOML file; raises `UserError` that names the file and the field."""
    try:
        return Definition.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not a readable suite definition ({error}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {field}: {first['msg']}, got {cut(str(first['input']), 80)!r}.") from error


def category_owners(asked: Sequence[Suite]) -> dict[str, str]:
    """Category → suite, over every registered suite; raises `UserError` where two of those asked for claim one."""
    asked_names = {suite.name for suite in asked}
    others = [suite for suite in sound_suites() if suite.name not in asked_names]
    owners = {category: suite.name for suite in others for category in suite.definition.categories}
    return {**owners, **_asked_owners(asked)}


def suites_of(
    rows: Sequence[tuple[str | None, int]],
    file_name: str,
    asked: Sequence[Suite] = (),
    registered: Sequence[Suite] | None = None,
) -> list[str]:
    """The suite of each row of a file, given as its category (None for none) and its number of turns: one that is asked
    for and takes the category, else the registered one that has it, else `custom/<category>`. Without a category the
    file's name is one, which is no registered suite's unless that is asked for.

    A suite that says how many turns its questions have (MT-bench: two) takes a file's rows only where all those of its
    categories have so many: EAGLE's `math` questions of one turn are GSM8K's, and no MT-bench.
    """
    wanted, asked_names = _asked_owners(asked), {suite.name for suite in asked}
    named, lengths = {category for category, _ in rows}, set(rows)
    owners = {
        category: suite.name
        for suite in reversed(sound_suites() if registered is None else registered)  # built-in ones win
        for category in suite.definition.categories
        if not _has_other_turns(suite.definition, lengths)
    }

    def suite_of(category: str | None) -> str:
        name = category or file_name
        custom = custom_name(name)
        if name in wanted or custom in asked_names:
            return wanted.get(name, custom)
        return custom if category is None and name not in named else owners.get(name, custom)

    return [suite_of(category) for category, _ in rows]


def _has_other_turns(about: Definition, lengths: Set[tuple[str | None, int]]) -> bool:
    return about.turns_each is not None and any(
        category in about.categories and turns != about.turns_each for category, turns in lengths
    )


def _asked_owners(asked: Sequence[Suite]) -> dict[str, str]:
    """Category → suite, of those asked for alone."""
    taken: dict[str, str] = {}
    for suite in asked:
        for category in suite.definition.categories:
            if category in taken:
                raise UserError(
                    f"suites {taken[category]!r} and {suite.name!r} both take category {category!r}; ask for one."
                )
            taken[category] = suite.name
    return taken
