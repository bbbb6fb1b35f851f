"""What a table of the report is made of: headings, and cells that know how they read, sort, and why they are empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from specbench_s2d.analysis.metrics.columns import Column
from specbench_s2d.analysis.tables.summary import Row
from specbench_s2d.analysis.tables.text import NOTHING, absent, interval, stands_on

NOT_RUN = "the decoder was not run on this suite"


@dataclass(frozen=True)
class Heading:
    """`what` is the definition that it shows on request, `numeric` aligns its column to the right."""

    text: str
    what: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class HtmlCell:
    """`text` is read, `small` stands below it, `value` is sorted by (None: last, either way).

    `reason` says why a dash stands there; `tone` is a CSS class; `style` places a drawn interval.
    """

    text: str
    value: float | str | None = None
    small: str = ""
    reason: str = ""
    tone: str = ""
    style: str = ""


@dataclass(frozen=True)
class HtmlTable:
    """One table; `filtered` gives it a box to filter rows by."""

    caption: str
    headings: Sequence[Heading]
    rows: Sequence[Sequence[HtmlCell]]
    note: str = ""
    filtered: bool = False


def text_cell(text: Any, tone: str = "", reason: str = "") -> HtmlCell:
    """A cell of text; missing text is a dash with the reason."""
    return missing_cell(reason) if absent(text) else HtmlCell(str(text), str(text), tone=tone)


def number_cell(value: Any, digits: str, reason: str = "", small: str = "", tone: str = "") -> HtmlCell:
    """A cell of a number in this format; a missing one is a dash with the reason."""
    if absent(value):
        return missing_cell(reason)
    return HtmlCell(f"{value:{digits}}", float(value), small, tone=tone)


def missing_cell(reason: str) -> HtmlCell:
    """A dash, with the reason."""
    return HtmlCell(NOTHING, None, reason=reason or "not recorded")


def text_headings(names: Iterable[str]) -> list[Heading]:
    """Headings of columns of text."""
    return [Heading(name, numeric=False) for name in names]


def heading_of(column: Column) -> Heading:
    """A column of the summary table, with its definition."""
    return Heading(column.heading, column.definitions[0])


def value_cell(row: Row | None, column: Column) -> HtmlCell:
    """A column's value in one row, its interval below it; a dash with the reason where it is missing."""
    if row is None:
        return missing_cell(NOT_RUN)
    return number_cell(row[column.name], column.digits, reason(row, column.name), below(row, column))


def below(row: Row, column: Column) -> str:
    """A value's interval and the questions that it stands on, or these alone."""
    _, low, high, questions = (row.get(name) for name in column.with_interval)
    if absent(questions):
        return ""
    ends = "" if absent(low) else f"{interval(low, high, column.digits)}, "
    return f"{ends}{stands_on(questions)}"


def reason(row: Row, name: str) -> str:
    """Why a row lacks a value, as its notes say."""
    notes = row.get("notes")
    parts = notes.split("; ") if isinstance(notes, str) else []
    return next((part.removeprefix(f"{name}: ") for part in parts if part.startswith(f"{name}: ")), "")
