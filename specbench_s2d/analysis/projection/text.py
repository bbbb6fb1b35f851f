"""Projections for those who read them: on a terminal, and as Markdown. Nothing is computed here, only formatted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench_s2d.analysis.projection.table import CANDIDATE, RECORDED, best_of
from specbench_s2d.analysis.tables.naming import suite_title
from specbench_s2d.analysis.tables.text import absent, number

Section = tuple[str, list[str], list[list[str]]]
"""A title, headings, rows of text."""
NOTES = (
    "Projected, not measured: acceptances times the costs of single passes; what the loop itself takes is left out.",
    "Speed-up over autoregressive decoding with its 95 % interval over questions; costs: its quartiles over the rounds "
    "of the pass costs. c: a drafted token's seconds over an AR pass. verify: a step's target pass over it.",
    "Below the recorded gamma a step accepts the same, cut at it; * extrapolated above it: a step that accepted all "
    "goes on at the one acceptance rate of all tokens.",
)


def sections(table: pd.DataFrame) -> list[Section]:
    """Per target: decoders by suite, then every candidate by gamma, then the best."""
    found: list[Section] = []
    for target, part in table.groupby("target", sort=False):
        first = part.iloc[0]
        facts = f"AR pass {number(first['ar_ms'], '.3f')} ms, {number(first['ar_percent_of_bound'], '.0f')} % of bound"
        title = f"{target} with {first['draft']}, projected ({facts})"
        recorded = part[part["role"] == RECORDED].to_dict("records")
        found.append((title, _HEADINGS, [_recorded(row) for row in recorded]))
        candidates = part[part["role"] == CANDIDATE]
        gammas = sorted(candidates["gamma"].unique())
        lines = [_by_gamma(str(label), rows) for label, rows in candidates.groupby("label", sort=False)]
        found.append((f"{target}, projected by gamma", ["Decoder", *map(str, gammas)], lines))
        best = [[row["what"], row["label"], str(row["gamma"]), _speed(row)] for row in best_of(part)]
        found.append((f"{target}, projected best on this device", ["Best", "Decoder", "gamma", "speed-up"], best))
    return found


_HEADINGS = ["Decoder", "Suite", "speed-up [95 %]", "costs", "published", "in its run", "MAT", "c", "verify"]


def _recorded(row: Mapping[Any, Any]) -> list[str]:
    return [
        str(row["label"]),
        suite_title(str(row["suite"])),
        _speed(row),
        f"{number(row['costs_low'])}–{number(row['costs_high'])}",
        *(number(row[name]) for name in ("published", "of_run", "mat")),
        number(row["cost_ratio"], ".3f"),
        number(row["verify_ratio"]),
    ]


def _speed(row: Mapping[Any, Any]) -> str:
    text = number(row["speedup"]) + ("*" if row["extrapolated"] else "")
    return text if absent(row["low"]) else f"{text} [{number(row['low'])}–{number(row['high'])}]"


def _by_gamma(label: str, rows: pd.DataFrame) -> list[str]:
    ordered = rows.sort_values("gamma").to_dict("records")
    return [label, *(number(row["speedup"]) + ("*" if row["extrapolated"] else "") for row in ordered)]


def _notes(table: pd.DataFrame) -> list[str]:
    said = dict.fromkeys(part for note in table["note"].dropna() for part in note.split("; "))
    return [*NOTES, *(f"Note: {part}." for part in said)]


def render(table: pd.DataFrame) -> RenderableType:
    """The terminal's tables."""
    parts: list[RenderableType] = []
    for title, headings, rows in sections(table):
        block = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        block.collapse_padding = True
        for place, heading in enumerate(headings):
            block.add_column(heading, justify="left" if place == 0 else "right", overflow="fold")
        for row in rows:
            block.add_row(*row)
        parts.append(block)
    return Group(*parts, *(Text(line, style="dim") for line in _notes(table)))


def markdown(table: pd.DataFrame) -> str:
    """The same as Markdown."""
    parts = ["# Projection"]
    for title, headings, rows in sections(table):
        head = [_line(headings), _line(["---", *["---:"] * (len(headings) - 1)])]
        parts += [f"## {title}", "\n".join([*head, *map(_line, rows)])]
    return "\n\n".join([*parts, *(f"- {line}" for line in _notes(table))]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
