"""The questions of a run: from the package, Spec-Bench's file, a question file or the hub, each put to its suite."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from specbench_s2d.errors import QuestionFileError, UserError, in_one_line
from specbench_s2d.resources import cache_folder
from specbench_s2d.suites.definition import Suite, load_suite, sound_suites, suites_of
from specbench_s2d.suites.formats import read_questions
from specbench_s2d.suites.hub import HUB, hub_rows
from specbench_s2d.suites.question import Question, questions_hash
from specbench_s2d.suites.rows import read_file, read_rows

EMBEDDED = "embedded"
SPEC_BENCH = "spec-bench"
SPEC_BENCH_URL = "https://raw.githubusercontent.com/hemingkx/Spec-Bench/main/data/spec_bench/question.jsonl"
SPEC_BENCH_SHA256 = "4b6d33e79484f9841c487ee87d1cf6aa8c6066f61d5d482ff09e5a007fafdf04"
_NOT_REPLAYED = (
    "the answers that the file gives are not replayed: each turn follows the answer that was decoded to the turn before"
)


@dataclass(frozen=True)
class QuestionSet:
    """The questions of a run, by suite in the order asked, in file order inside each.

    `source` is `embedded`, `spec-bench` (the file is recognised by its hash, wherever it lies), a file's name, or the
    `hub:` dataset. `left_out`: how many of the file are of suites that were not asked for. `notes`: what a person
    should know of how the file was read.
    """

    source: str
    by_suite: Mapping[str, tuple[Question, ...]]
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def questions(self) -> list[Question]:
        return [question for part in self.by_suite.values() for question in part]

    @property
    def hashes(self) -> dict[str, str]:
        """`questions_hash` of each suite's questions, as the manifest stores it."""
        return {suite: questions_hash(part) for suite, part in self.by_suite.items()}

    @property
    def said(self) -> list[str]:
        """Lines for a person: which suites the questions of a file went to. None of what ships or is Spec-Bench's."""
        if self.source in (EMBEDDED, SPEC_BENCH):
            return []
        taken = ", ".join(f"{len(part)} {suite}" for suite, part in self.by_suite.items())
        left = ", ".join(f"{count} {suite}" for suite, count in self.left_out.items())
        lines = [f"questions by suite: {taken}" + (f"; not asked for: {left}" if left else ""), *self.notes]
        return [f"{self.source}: {line}" for line in lines]

    def __iter__(self) -> Iterator[Question]:
        return iter(self.questions)

    def __len__(self) -> int:
        return len(self.questions)


def load_questions(
    source: str, suites: Sequence[str] | None = None, limit: int | None = None, column: str | None = None
) -> QuestionSet:
    """The questions of `suites` from `embedded`, `spec-bench`, a question file, or `hub:OWNER/NAME`; at most `limit` of
    each suite. `column`: the one that holds the prompts, where the file's rows have no turns or messages.

    Without `suites`: those that the source has questions of. Raises `QuestionFileError` for a file that cannot be used,
    or that has no question of a suite that was asked for.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: give a whole number of questions per suite, 1 or more.")
    asked = None if suites is None else list({suite.name: suite for suite in map(load_suite, suites)}.values())
    if source not in (EMBEDDED, SPEC_BENCH):
        found = _of_file(source, asked, column)
    elif column is not None:
        raise UserError(f"--column {column}: is for a question file; {source!r} needs none.")
    elif source == EMBEDDED:
        found = QuestionSet(EMBEDDED, {suite.name: suite.questions for suite in asked or sound_suites()})
    else:
        found = _of_file(str(_spec_bench_file()), asked, None)
    if asked is None:
        by_suite = {name: part for name, part in found.by_suite.items() if part}
    else:
        by_suite = {suite.name: found.by_suite.get(suite.name, ()) for suite in asked}
    for name, part in by_suite.items():
        if not part:
            there = (
                [suite.name for suite in sound_suites() if suite.questions] if source == EMBEDDED else found.by_suite
            )
            raise QuestionFileError(
                f"{source}: no questions of suite {name!r}; it has {', '.join(there)}. "
                "Leave that suite out, or give a file that has it."
            )
    left_out = {name: len(part) for name, part in found.by_suite.items() if name not in by_suite and part}
    return QuestionSet(found.source, {name: part[:limit] for name, part in by_suite.items()}, left_out, found.notes)


def _of_file(source: str, asked: Sequence[Suite] | None, column: str | None) -> QuestionSet:
    """Every question of a file by suite: registered suites first, then the file's own categories as they come."""
    label, stem = source, source.rpartition("/")[2]
    if source.startswith(HUB):
        rows, stem = hub_rows(source)
    else:
        content = read_file(Path(source))
        rows, stem, label = read_rows(content, source), Path(source.removesuffix(".gz")).stem, Path(source).name
        if hashlib.sha256(content).hexdigest() == SPEC_BENCH_SHA256:
            label = SPEC_BENCH
    given = read_questions(rows, column)
    registered = sound_suites()
    names = suites_of([(one.category, len(one.turns)) for one in given], stem, asked or [], registered)
    by_suite: dict[str, list[Question]] = {suite.name: [] for suite in registered}
    for one, suite in zip(given, names, strict=True):
        by_suite.setdefault(suite, []).append(one.question(suite, one.category or stem))
    notes = (_NOT_REPLAYED,) if any(one.answered for one in given) else ()
    return QuestionSet(label, {name: tuple(part) for name, part in by_suite.items() if part}, notes=notes)


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
    return in_one_line(error).rstrip(".")
