"""`specbench-s2d suites`: what there is to run, where it comes from, and how it is scored."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from specbench_s2d.analysis.tables.text import TextTable
from specbench_s2d.cli import screen
from specbench_s2d.suites import (
    CUSTOM,
    EMBEDDED,
    HEADINGS,
    QUESTION_FILE,
    Question,
    QuestionSet,
    Suite,
    broken_suites,
    definitions,
    load_questions,
    load_suite,
    questions_hash,
    sound_suites,
)

SHOWN_CHARACTERS = 200


def suites(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this suite alone, with its questions.")
    ] = None,
    questions: Annotated[
        str,
        typer.Option("--questions", help="Question file, hub:OWNER/NAME, or 'spec-bench' (cache or download)."),
    ] = EMBEDDED,
    column: Annotated[
        str | None, typer.Option(help="The column of the question file that holds the prompts.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, questions in full.")] = False,
) -> None:
    """List the suites, or show one of them with its questions."""
    found = load_questions(questions, [name] if name else None, column=column)
    others = [] if name else [suite for suite in sound_suites() if suite.name not in found.by_suite]
    shown = [load_suite(suite) for suite in found.by_suite]
    shown = sorted([*shown, *others], key=lambda suite: _place(suite.name))
    out = screen.stdout()
    if as_json:
        facts = [_facts(suite, found, with_questions=name is not None) for suite in shown]
        typer.echo(json.dumps(facts[0] if name else facts, indent=2))
    elif name:
        out.print(_facts_table(shown[0], found))
        out.print(_question_table(found))
    else:
        out.print(_suite_table(shown, found))
        for broken, why in broken_suites().items():
            out.say(f"{broken}: broken: {why}")


def _place(name: str) -> int:
    """Registered suites in their order, those of a file's own after them."""
    known = list(definitions.paths())
    return known.index(name) if name in known else len(known)


def _origin(suite: Suite) -> str:
    return QUESTION_FILE if suite.name.startswith(CUSTOM) else definitions.entries()[suite.name].origin


def _facts(suite: Suite, found: QuestionSet, with_questions: bool) -> dict[str, Any]:
    facts = {
        **suite.definition.model_dump(mode="json", exclude={"questions", *HEADINGS}),
        "from": _origin(suite),
        "embedded_questions": len(suite.questions),
        "hash": suite.hash,
        "questions_from": found.source,
        "questions_count": len(found.by_suite.get(suite.name, ())),
        "questions_hash": questions_hash(found.by_suite.get(suite.name, ())),
    }
    return {**facts, "questions": [asdict(q) for q in found]} if with_questions else facts


def _suite_table(shown: list[Suite], found: QuestionSet) -> TextTable:
    rows = []
    for suite in shown:
        about = suite.definition
        name = f"{about.name} v{about.version}\n{about.title}\n{_origin(suite)}"
        rows.append([name, _metrics(suite), f"{about.source}\n{about.license}", _counts(suite, found)])
    headings = ["suite", "quality metric", "source, licence", "questions"]
    return TextTable(headings, rows, left=len(headings), names=0, spare=(1,), elsewhere="--json")


def _counts(suite: Suite, found: QuestionSet) -> str:
    counts = {EMBEDDED: len(suite.questions), "Spec-Bench": suite.definition.spec_bench_questions}
    if found.source != EMBEDDED:
        counts[f"in {found.source}"] = len(found.by_suite.get(suite.name, ()))
    return "\n".join(f"{count} {where}" for where, count in counts.items() if count or where.startswith("in "))


def _facts_table(suite: Suite, found: QuestionSet) -> TextTable:
    about = suite.definition
    facts = {
        "from": _origin(suite),
        "source": "\n".join([about.source, *about.links]),
        "licence": f"{about.license}. {about.license_note}",
        "prompt": "each turn is one user message, as it stands",
        "categories": ", ".join(about.categories),
        "quality metric": f"{_metrics(suite)}. {about.quality.note}",
        "questions": _counts(suite, found),
        "hash": suite.hash,
    }
    return TextTable(["suite", f"{about.name}, version {about.version}: {about.title}"], list(facts.items()), left=2)


def _question_table(found: QuestionSet) -> TextTable:
    rows = []
    for question in found:
        turns = "\n".join(_short(turn) for turn in question.turns)
        rows.append([str(question.id), question.category, turns, _reference(question)])
    headings = ["id", "category", "turns", "reference"]
    title = f"{len(found)} questions, {found.source}"
    return TextTable(headings, rows, title, left=len(headings), spare=(3, 1), elsewhere="--json")


def _metrics(suite: Suite) -> str:
    return ", ".join(suite.definition.quality.metrics) or "none"


def _reference(question: Question) -> str:
    per_turn = [" | ".join(question.answers(turn)) for turn in range(len(question.turns))]
    return "\n".join(_short(answer) for answer in per_turn if answer)


def _short(text: str) -> str:
    """A text, or its two ends: a long prompt often asks its question last."""
    half = SHOWN_CHARACTERS // 2
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:half]} … {text[-half:]}"
