"""How each column of the tidy table reads in the report: its heading, its digits, the definition behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from specbench_s2d.analysis.metrics import quality as grades
from specbench_s2d.analysis.metrics.columns import DEFINITIONS
from specbench_s2d.analysis.report.html.grid import Cell, Column, figure
from specbench_s2d.analysis.tables.summary import QUALITY
from specbench_s2d.analysis.tables.text import NOTHING, Row, interval, quality_columns
from specbench_s2d.measure.quality import METRICS

# column: (heading, format)
_HEADINGS = {
    "questions": ("questions", "d"),
    "tokens_per_answer": ("tokens / answer", ".1f"),
    "tokens_per_s": ("tokens/s", ".1f"),
    "percent_of_bound": ("% of bound", ".0f"),
    "speedup": ("speed-up", ".2f"),
    "speedup_e2e": ("with prefill", ".2f"),
    "speedup_specbench": ("Spec-Bench’s", ".2f"),
    "speedup_predicted": ("predicted", ".2f"),
    "cost_ratio": ("cost ratio", ".3f"),
    "verify_ratio": ("verify ratio", ".2f"),
    "mat": ("MAT", ".2f"),
    "acceptance_rate": ("acceptance", ".2f"),
    "draft_layers_per_token": ("draft layers / token", ".2f"),
    "tokens_per_pass": ("tokens / pass", ".2f"),
    "perplexity": ("perplexity", ".2f"),
    "energy_j_per_token": ("J/token", ".3g"),
    "energy_net_j_per_token": ("J/token, net of idle", ".3g"),
    "mismatches": ("mismatches", "d"),
    "near_ties": ("near-ties", "d"),
    "auditable_share": ("auditable", ".3f"),
    "failed": ("failed", "d"),
    "skipped": ("skipped", "d"),
    "truncated": ("truncated", "d"),
}
_COUNTS = ("mismatches", "near_ties", "auditable_share", "failed", "skipped", "truncated")
_COSTS = ("cost_ratio", "verify_ratio")
SPEEDS = (
    "tokens_per_s", "percent_of_bound", "speedup", "speedup_predicted", "speedup_e2e", "speedup_specbench", *_COSTS,
    "acceptance_rate", "tokens_per_pass", "draft_layers_per_token", "energy_net_j_per_token",
)  # fmt: skip
EFFECTS = ("mat", "perplexity", "energy_j_per_token")


@dataclass(frozen=True)
class FigureColumn:
    """A column of the tidy table that the report shows; metrics of task quality have their own headings."""

    name: str

    @property
    def form(self) -> str:
        if self.name.startswith(QUALITY):
            return ".1f" if grades.is_pooled(self.name.removeprefix(QUALITY)) else ".2f"
        return _HEADINGS[self.name][1]

    def column(self) -> Column:
        """Its heading, with its definition."""
        metric = self.name.removeprefix(QUALITY)
        if metric == self.name:
            return Column(_HEADINGS[self.name][0], DEFINITIONS.get(self.name, ""))
        return Column(grades.title(metric), METRICS[metric].what if metric in METRICS else DEFINITIONS["quality_*"])

    def cell(self, row: Row | None) -> Cell:
        """The figure in one row, its interval below it; a dash with the reason where it is missing."""
        if row is None:
            return figure(None, self.form, "the decoder was not run on this suite")
        return figure(row[self.name], self.form, reason(row, self.name), ends(row, self.name))


def shown(table: pd.DataFrame, names: Sequence[str]) -> list[FigureColumn]:
    """Those of `names` that the tidy table has."""
    return [FigureColumn(name) for name in names if name in table.columns]


def scores(table: pd.DataFrame) -> list[FigureColumn]:
    """The metrics of task quality."""
    return [FigureColumn(name) for name in quality_columns(table.columns)]


def everything(table: pd.DataFrame) -> list[FigureColumn]:
    """Every figure of a row, in reading order."""
    leading = [name for name in _HEADINGS if name not in _COUNTS]
    return [*shown(table, leading), *scores(table), *shown(table, _COUNTS)]


def ends(row: Row, name: str) -> str:
    """The 95 % interval of a figure as text; empty where it has none."""
    text = interval(row, name, FigureColumn(name).form) if f"{name}_low" in row else NOTHING
    return "" if text == NOTHING else text


def reason(row: Row, name: str) -> str:
    """Why a row lacks a figure, as its notes say; metrics of counts share one note."""
    notes = row.get("notes")
    parts = notes.split("; ") if isinstance(notes, str) else []
    found = [part.removeprefix(f"{name}: ") for part in parts if part.startswith(f"{name}: ")]
    return found[0] if found else ""
