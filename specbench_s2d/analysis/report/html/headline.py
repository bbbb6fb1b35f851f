"""A target's tables: speed-up by suite, throughput and prediction, task quality, and every figure of every suite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from specbench_s2d.analysis.report.html.figure_columns import (
    EFFECTS,
    SPEEDS,
    FigureColumn,
    ends,
    everything,
    reason,
    scores,
    shown,
)
from specbench_s2d.analysis.report.html.grid import Cell, Column, Grid, figure, missing, word
from specbench_s2d.analysis.tables import text as tables
from specbench_s2d.analysis.tables.naming import decoder_title, is_projected, suite_title
from specbench_s2d.analysis.tables.summary import OVERALL
from specbench_s2d.analysis.tables.text import Row, absent
from specbench_s2d.runs.record import BASELINE


@dataclass(frozen=True)
class Target:
    """One target's tables; `grids` are read first, `full` is every figure."""

    title: str
    grids: list[Grid]
    full: Grid


def targets(table: pd.DataFrame) -> list[Target]:
    """The tables of every target, the mean over targets included."""
    return [_target(title, rows, table) for title, rows in tables.blocks(table)]


def _target(title: str, rows: Sequence[Row], table: pd.DataFrame) -> Target:
    overall = [row for row in rows if row["suite"] == OVERALL]
    grids = [_by_suite(rows, overall, shown(table, EFFECTS))]
    grids.append(_overall("Throughput, prediction and cost", overall, shown(table, SPEEDS)))
    scored = [column for column in scores(table) if not all(absent(row[column.name]) for row in overall)]
    grids += [_overall("Task quality", overall, scored)] if scored else []
    return Target(title, grids, _full(rows, everything(table)))


def _names(row: Row) -> list[Cell]:
    drafts = row["draft"] if isinstance(row["draft"], str) else ""
    title = decoder_title(row["label"], row["lossy"], row["projected"])
    name = Cell(title, row["label"], drafts and f"draft: {drafts}", tone="name")
    if is_projected(row["projected"]):
        return [name, Cell("projected", "projected", str(row["projected"]), tone="lossy")]
    return [name, Cell("lossy", "lossy", tone="lossy") if row["lossy"] else Cell("lossless", "lossless")]


_NAMES = (Column("decoder", numeric=False), Column("output", numeric=False))


def _by_suite(rows: Sequence[Row], overall: Sequence[Row], effects: Sequence[FigureColumn]) -> Grid:
    suites = list(dict.fromkeys(row["suite"] for row in rows if row["suite"] != OVERALL))
    found = {(row["label"], row["suite"]): row for row in rows}
    scale = Scale.of(overall)
    columns = [
        *_NAMES,
        Column("all suites"),
        Column(scale.text, "speed-up over all suites with its 95 % interval, on a logarithmic scale; the line is 1"),
        *(Column(suite_title(suite)) for suite in suites),
        *(column.column() for column in effects),
    ]
    body = [
        [
            *_names(row),
            speedup(row),
            scale.cell(row),
            *(speedup(found.get((row["label"], suite))) for suite in suites),
            *(column.cell(row) for column in effects),
        ]
        for row in overall
    ]
    note = (
        f"Speed-up over {BASELINE} in decode tokens/s, below it the 95 % interval. Shaded where the whole interval "
        "lies above 1 (blue) or below 1 (orange). MAT, perplexity and energy over all suites."
    )
    return Grid("Speed-up by suite", columns, body, note)


def speedup(row: Row | None) -> Cell:
    """A speed-up with its interval, toned where the interval leaves out 1; AR's own is 1 and has no tone."""
    if row is None:
        return missing("the decoder was not run on this suite")
    tone = ""
    if row["label"] != BASELINE and not absent(row["speedup_low"]):
        tone = "up" if row["speedup_low"] > 1 else "down" if row["speedup_high"] < 1 else ""
    small = "" if row["label"] == BASELINE else ends(row, "speedup")
    return figure(row["speedup"], ".2f", reason(row, "speedup"), small, tone)


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis from `low` to `high`, which hold 1."""

    low: float
    high: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Scale:
        """The axis that takes in every interval of these rows."""
        names = ("speedup", "speedup_low", "speedup_high")
        known = [1.0, *(row[name] for row in rows for name in names if not absent(row[name]) and row[name] > 0)]
        return cls(min(known) / 1.05, max(known) * 1.05)

    @property
    def text(self) -> str:
        return f"interval, {self.low:.2g}–{self.high:.2g}×"

    def percent(self, value: float) -> str:
        """Where a value stands, from the left."""
        return f"{100 * math.log(max(value, self.low) / self.low) / math.log(self.high / self.low):.1f}%"

    def cell(self, row: Row) -> Cell:
        """A row's interval, drawn; empty where it has none."""
        low, high = row["speedup_low"], row["speedup_high"]
        if absent(row["speedup"]) or absent(low):
            return missing(reason(row, "speedup") or reason(row, "speedup_low"))
        places = {"low": low, "high": high, "at": row["speedup"], "one": 1.0}
        style = ";".join(f"--{name}:{self.percent(value)}" for name, value in places.items())
        return Cell("", float(row["speedup"]), tone=f"whisker {speedup(row).tone}", style=style)


def _overall(caption: str, rows: Sequence[Row], columns: Sequence[FigureColumn]) -> Grid:
    body = [[_names(row)[0], *(column.cell(row) for column in columns)] for row in rows]
    return Grid(caption, [_NAMES[0], *(column.column() for column in columns)], body, "Over all suites.")


def _full(rows: Sequence[Row], columns: Sequence[FigureColumn]) -> Grid:
    head = [_NAMES[0], Column("suite", numeric=False), _NAMES[1], *(column.column() for column in columns)]
    body = []
    for row in rows:
        name, output = _names(row)
        body.append(
            [
                replace(name, small=""),
                word(suite_title(row["suite"])),
                output,
                *(column.cell(row) for column in columns),
            ]
        )
    return Grid("Every suite and figure", head, body, filtered=True)
