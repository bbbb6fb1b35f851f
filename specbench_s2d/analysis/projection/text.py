"""Projections for those who read them: on a terminal, and as Markdown. Nothing is computed here, only formatted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from rich.console import RenderableType

from specbench_s2d.analysis.projection.table import CANDIDATE, RECORDED, best_of
from specbench_s2d.analysis.tables.naming import suite_title
from specbench_s2d.analysis.tables.text import (
    TextTable,
    absent,
    interval,
    number,
    stands_on,
    terminal_tables,
)
from specbench_s2d.display import markdown_text
from specbench_s2d.published import LACKING

NOTES = (
    "Projected, not measured: acceptances times the costs of single passes; what the loop itself takes is left out.",
    "Speed-up over autoregressive decoding with its 95 % interval from n questions; costs: its quartiles over the "
    "rounds of the pass costs. c: a drafted token's seconds over an AR pass. verify: a step's target pass over it.",
    "Below the recorded gamma a step accepts the same, cut at it; * extrapolated above it: a step that accepted all "
    "goes on at the one acceptance rate of all tokens.",
)


def tables(table: pd.DataFrame) -> list[TextTable]:
    """Per target: decoders by suite, then every candidate by gamma, then the best."""
    found = []
    for target, part in table.groupby("target", sort=False):
        first = part.iloc[0]
        facts = f"AR pass {number(first['ar_ms'], '.3f')} ms, {number(first['ar_percent_of_bound'], '.0f')} % of bound"
        facts += ": the read rate was measured too low" if first["ar_percent_of_bound"] > 100 else ""
        title = f"{target} with {first['draft']}, projected ({facts})"
        recorded = part[part["role"] == RECORDED]
        columns = {h: n for h, n in _COLUMNS.items() if h not in _BESIDE or recorded[_BESIDE[h]].notna().any()}
        candidates = part[part["role"] == CANDIDATE]
        gammas = sorted(candidates["gamma"].unique())
        lines = [_by_gamma(str(label), rows) for label, rows in candidates.groupby("label", sort=False)]
        best = [[row["what"], row["label"], str(row["gamma"]), _speed(row)] for row in best_of(part)]
        best_title = f"{target}, projected best on this device"
        found += [
            TextTable(["Decoder", "Suite", *columns], _recorded(recorded, columns), title, left=2),
            TextTable(["Decoder", *map(str, gammas)], lines, f"{target}, projected by gamma"),
            TextTable(["Best", "Decoder", "gamma", "speed-up"], best, best_title, left=2, names=2),
        ]
    return found


_Row = Mapping[Any, Any]
_BESIDE = {"published": "published", "in its run": "of_run"}  # left out where nothing is known
_COLUMNS: dict[str, Callable[[_Row], str]] = {
    "speed-up [95 %]": lambda row: _speed(row),
    "costs": lambda row: interval(row["costs_low"], row["costs_high"]),
    "published": lambda row: number(row["published"]),
    "in its run": lambda row: number(row["of_run"]),
    "MAT": lambda row: number(row["mat"]),
    "c": lambda row: number(row["cost_ratio"], ".3f"),
    "verify": lambda row: number(row["verify_ratio"]),
}


def _recorded(rows: pd.DataFrame, columns: Mapping[str, Callable[[_Row], str]]) -> list[list[str]]:
    """A line per decoder and suite; a decoder's name stands once."""
    again = rows["label"].duplicated()
    return [
        ["" if named else str(row["label"]), suite_title(str(row["suite"])), *(made(row) for made in columns.values())]
        for row, named in zip(rows.to_dict("records"), again, strict=True)
    ]


def _speed(row: _Row) -> str:
    text = number(row["speedup"]) + ("*" if row["extrapolated"] else "")
    if absent(row["n"]):
        return text
    ends = "" if absent(row["low"]) else f"{interval(row['low'], row['high'])}, "
    return f"{text} [{ends}{stands_on(row['n'])}]"


def _by_gamma(label: str, rows: pd.DataFrame) -> list[str]:
    ordered = rows.sort_values("gamma").to_dict("records")
    return [label, *(number(row["speedup"]) + ("*" if row["extrapolated"] else "") for row in ordered)]


def _notes(table: pd.DataFrame) -> list[str]:
    """How to read the tables, and each note of their rows once; those that differ in the suite alone are one."""
    said = dict.fromkeys(part for note in table["note"].dropna() for part in note.split("; "))
    alike: dict[tuple[str, str], list[str]] = {}
    for part in said:
        before, lacking, after = part.partition(LACKING)
        suite, colon, rest = after.partition(": ")
        alike.setdefault((f"{before}{lacking}", f"{colon}{rest}"), []).append(suite)
    return [*NOTES, *(f"Note: {head}{', '.join(suites)}{tail}." for (head, tail), suites in alike.items())]


def render(table: pd.DataFrame) -> RenderableType:
    """The terminal's tables."""
    return terminal_tables(tables(table), _notes(table))


def markdown(table: pd.DataFrame) -> str:
    """The same as Markdown."""
    parts = ["# Projection", *(each.markdown_section() for each in tables(table))]
    return "\n\n".join([*parts, *(f"- {markdown_text(line)}" for line in _notes(table))]) + "\n"
