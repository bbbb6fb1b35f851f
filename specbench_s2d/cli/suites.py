"""`specbench-s2d suites`: what there is to run, where it comes from, and how it is scored."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from specbench_s2d.suites import EMBEDDED, Question, QuestionSet, Suite, load_questions, load_suite

SHOWN_CHARACTERS = 200


def suites(
    name: Annotated[str | None, typer.Argument(help="Show this suite alone, with its questions.")] = None,
    questions: Annotated[
        str, typer.Option("--questions", help="Question file, or 'spec-bench' (cache or download).")
    ] = EMBEDDED,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, questions in full.")] = False,
) -> None:
    """List the suites, or show one of them with its questions."""
    found = load_questions(questions, [name] if name else None)
    shown = [load_suite(suite) for suite in found.by_suite]
    console = Console()
    if as_json:
        facts = [_facts(suite, found, with_questions=name is not None) for suite in shown]
        typer.echo(json.dumps(facts[0] if name else facts, ensure_ascii=False, indent=2))
    elif name:
        console.print(_facts_table(shown[0]))
        console.print(_question_table(found))
    else:
        console.print(_suite_table(shown, found))


def _facts(suite: Suite, found: QuestionSet, with_questions: bool) -> dict[str, Any]:
    facts = {
        **suite.definition.model_dump(mode="json", exclude={"questions"}),
        "embedded_questions": len(suite.questions),
        "hash": suite.hash,
        "questions_from": found.source,
        "questions_count": len(found.by_suite[suite.name]),
        "questions_hash": found.hashes[suite.name],
    }
    return {**facts, "questions": [asdict(q) for q in found]} if with_questions else facts


def _suite_table(shown: list[Suite], found: QuestionSet) -> Table:
    from_file = found.source != EMBEDDED
    table = Table("suite", "title")
    for column in ("version", "embedded", "Spec-Bench", *([found.source] if from_file else [])):
        table.add_column(Text(column), justify="right")
    for column in ("quality metric", "source", "licence"):
        table.add_column(column)
    for suite in shown:
        about = suite.definition
        counts = [about.version, len(suite.questions), about.spec_bench_questions]
        counts += [len(found.by_suite[suite.name])] if from_file else []
        cells = [about.name, about.title, *map(str, counts), _metrics(suite), about.source, about.license]
        table.add_row(*map(Text, cells))
    return table


def _facts_table(suite: Suite) -> Table:
    about = suite.definition
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for label, value in {
        "suite": f"{about.name}, version {about.version}: {about.title}",
        "source": "\n".join([about.source, *about.links]),
        "licence": f"{about.license}. {about.license_note}",
        "prompt": "each turn is one user message, as it stands",
        "categories": ", ".join(about.categories),
        "quality metric": f"{_metrics(suite)}. {about.quality.note}",
        "questions": f"{len(suite.questions)} embedded, {about.spec_bench_questions} in Spec-Bench",
        "hash": suite.hash,
    }.items():
        table.add_row(label, Text(value))
    return table


def _question_table(found: QuestionSet) -> Table:
    table = Table(
        "id", "category", "turns", "reference", title=f"{len(found)} questions, {found.source}", show_lines=True
    )
    for question in found:
        turns = "\n".join(_short(turn) for turn in question.turns)
        table.add_row(*map(Text, (str(question.id), question.category, turns, _reference(question))))
    return table


def _metrics(suite: Suite) -> str:
    return ", ".join(suite.definition.quality.metrics) or "none"


def _reference(question: Question) -> str:
    per_turn = [" | ".join(question.answers(turn)) for turn in range(len(question.turns))]
    return "\n".join(_short(answer) for answer in per_turn if answer)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
