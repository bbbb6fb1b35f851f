"""What a table of the report is made of: columns, and cells that know how they read, sort, and why they are empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from specbench_s2d.analysis.tables.text import NOTHING, absent


@dataclass(frozen=True)
class Column:
    """A heading; `what` is the definition that it shows on request, `numeric` aligns the column to the right."""

    heading: str
    what: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
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
class Grid:
    """One table; `filtered` gives it a box to filter rows by."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    filtered: bool = field(default=False)


def word(text: Any, tone: str = "", reason: str = "") -> Cell:
    """A cell of text; missing text is a dash with the reason."""
    return missing(reason) if absent(text) else Cell(str(text), str(text), tone=tone)


def figure(value: Any, form: str, reason: str = "", small: str = "", tone: str = "") -> Cell:
    """A cell of a number in this format; a missing one is a dash with the reason."""
    if absent(value):
        return missing(reason)
    return Cell(f"{value:{form}}", float(value), small, tone=tone)


def missing(reason: str) -> Cell:
    """A dash, with the reason."""
    return Cell(NOTHING, None, reason=reason or "not recorded")


def words(headings: Iterable[str]) -> list[Column]:
    """Columns of text."""
    return [Column(heading, numeric=False) for heading in headings]
