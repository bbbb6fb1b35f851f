"""A target's tables: speed-up by suite, throughput and prediction, quality and repetition of text, and every value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from specbench_s2d.analysis.metrics.columns import Column, columns_of, of_text, shown_columns
from specbench_s2d.analysis.report.html.table import (
    Heading,
    HtmlCell,
    HtmlTable,
    heading_of,
    missing_cell,
    reason,
    text_cell,
    value_cell,
)
from specbench_s2d.analysis.tables.naming import is_projected, row_title, suite_title
from specbench_s2d.analysis.tables.remarks import whys, within_launches
from specbench_s2d.analysis.tables.summary import OVERALL, Row, by_decoder, rows_by_target, speed_column
from specbench_s2d.analysis.tables.text import absent
from specbench_s2d.runs.record import BASELINE

_DECODER, _SUITE, _OUTPUT = (Heading(name, numeric=False) for name in ("decoder", "suite", "output"))


@dataclass(frozen=True)
class Target:
    """One target's tables; `tables` are read first, `full` is every value. `whys`: a sentence for each decoder that
    says what makes it slower or faster than AR."""

    title: str
    tables: list[HtmlTable]
    full: HtmlTable
    whys: list[str]


def targets(table: pd.DataFrame) -> list[Target]:
    """The tables of every target, the mean over targets included."""
    columns = shown_columns(table)
    [speed] = columns_of([speed_column(table)])
    reasons = whys(table)
    return [_target(title, rows, columns, speed, reasons.get(title, [])) for title, rows in rows_by_target(table)]


def _target(title: str, rows: Sequence[Row], columns: Sequence[Column], speed: Column, reasons: list[str]) -> Target:
    overall = [row for row in rows if row["suite"] == OVERALL]
    what, scored = of_text(columns, overall)
    tables = [
        _by_suite(rows, speed, [c for c in columns if c.overview == "effect"]),
        _overall("Throughput, prediction and cost", overall, [c for c in columns if c.overview == "speed"]),
        *([_overall(what.capitalize(), overall, scored)] if scored else []),
    ]
    return Target(title, tables, _full(rows, columns), reasons)


def _names(row: Row) -> list[HtmlCell]:
    drafts = row["draft"] if isinstance(row["draft"], str) else ""
    name = HtmlCell(row_title(row), row["label"], drafts and f"draft: {drafts}", tone="name")
    if is_projected(row["projected"]):
        return [name, HtmlCell("projected", "projected", str(row["projected"]), tone="lossy")]
    return [name, HtmlCell("lossy", "lossy", tone="lossy") if row["lossy"] else HtmlCell("lossless", "lossless")]


def _by_suite(rows: Sequence[Row], speed: Column, effects: Sequence[Column]) -> HtmlTable:
    suites = list(dict.fromkeys(row["suite"] for row in rows if row["suite"] != OVERALL))
    found = by_decoder(rows)
    scale = Scale.of([of_label[OVERALL] for of_label in found.values()], speed)
    headings = [
        _DECODER, _OUTPUT, Heading("all suites"),
        Heading(scale.text, "speed-up over all suites with its 95 % interval, on a logarithmic scale; the line is 1"),
        *(Heading(suite_title(suite)) for suite in suites), *map(heading_of, effects),
    ]  # fmt: skip
    body = [_suites_line(of_label, suites, scale, effects) for of_label in found.values()]
    rate = "decode tokens/s" if speed.name == "speedup" else "tokens/s, prefill included"
    note = (
        f"Speed-up over {BASELINE} in {rate}, below it the 95 % interval from n questions"
        f"{within_launches(row['launches'] for row in rows)}. Shaded where the whole interval lies above 1 (blue) or "
        "below 1 (orange). MAT, perplexity and energy over all suites."
    )
    return HtmlTable("Speed-up by suite", headings, body, note)


def _suites_line(
    of_label: Mapping[str, Row], suites: Sequence[str], scale: Scale, effects: Sequence[Column]
) -> list[HtmlCell]:
    overall = of_label[OVERALL]
    by_suite = [speedup(of_label.get(suite), scale.speed) for suite in suites]
    return [
        *_names(overall), speedup(overall, scale.speed), scale.cell(overall), *by_suite,
        *(value_cell(overall, column) for column in effects),
    ]  # fmt: skip


def speedup(row: Row | None, speed: Column) -> HtmlCell:
    """A speed-up with its interval, toned where the interval leaves out 1; AR's own is 1 and has no tone."""
    cell = value_cell(row, speed)
    if row is None:
        return cell
    if row["label"] == BASELINE:
        return replace(cell, small="")
    _, low, high, _ = (row[name] for name in speed.with_interval)
    if absent(low):
        return cell
    return replace(cell, tone="up" if low > 1 else "down" if high < 1 else "")


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis of the column `speed` from `low` to `high`, which hold 1."""

    low: float
    high: float
    speed: Column

    @classmethod
    def of(cls, rows: Sequence[Row], speed: Column) -> Scale:
        """The axis that takes in every interval of these rows."""
        names = speed.with_interval[:3]
        known = [1.0, *(row[n] for row in rows for n in names if not absent(row[n]) and row[n] > 0)]
        return cls(min(known) / 1.05, max(known) * 1.05, speed)

    @property
    def text(self) -> str:
        return f"interval, {self.low:.2g}–{self.high:.2g}×"

    def percent(self, value: float) -> str:
        """Where a value stands, from the left."""
        return f"{100 * math.log(max(value, self.low) / self.low) / math.log(self.high / self.low):.1f}%"

    def cell(self, row: Row) -> HtmlCell:
        """A row's interval, drawn; empty where it has none."""
        name, *ends, _ = self.speed.with_interval
        value, low, high = (row[column] for column in (name, *ends))
        if absent(value) or absent(low):
            return missing_cell(reason(row, name) or reason(row, ends[0]))
        places = {"low": low, "high": high, "at": value, "one": 1.0}
        style = ";".join(f"--{place}:{self.percent(at)}" for place, at in places.items())
        return HtmlCell("", float(value), tone=f"whisker {speedup(row, self.speed).tone}", style=style)


def _overall(caption: str, rows: Sequence[Row], columns: Sequence[Column]) -> HtmlTable:
    body = [[_names(row)[0], *(value_cell(row, column) for column in columns)] for row in rows]
    return HtmlTable(caption, [_DECODER, *map(heading_of, columns)], body, "Over all suites.")


def _full(rows: Sequence[Row], columns: Sequence[Column]) -> HtmlTable:
    body = []
    for row in rows:
        name, output = _names(row)
        values = [value_cell(row, column) for column in columns]
        body.append([replace(name, small=""), text_cell(suite_title(row["suite"])), output, *values])
    headings = [_DECODER, _SUITE, _OUTPUT, *map(heading_of, columns)]
    return HtmlTable("Every suite and value", headings, body, filtered=True)
