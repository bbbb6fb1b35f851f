"""What every comparison is: a table of values, tables of text that show it, and notes on how to read them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from rich.console import RenderableType

from specbench_s2d.analysis.tables.csv_text import csv_text
from specbench_s2d.analysis.tables.naming import mark_notes
from specbench_s2d.analysis.tables.text import TextTable, terminal_tables
from specbench_s2d.display import markdown_text
from specbench_s2d.errors import UserError
from specbench_s2d.files import write_whole
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import BASELINE, Record

SUFFIXES = (".csv", ".md")


@dataclass(frozen=True)
class Comparison:
    """`table`: every value. `shown`: what is shown of it. `notes`: how to read it, and what has no partner."""

    title: str
    table: pd.DataFrame
    shown: list[TextTable]
    notes: list[str] = field(default_factory=list)

    @property
    def all_notes(self) -> list[str]:
        """The notes, and what the marks mean."""
        return [*self.notes, *mark_notes(self.table["lossy"], self.table["projected"])]

    def terminal(self) -> RenderableType:
        """The tables and the notes as rich prints them."""
        return terminal_tables(self.shown, self.all_notes)

    def markdown(self) -> str:
        """The same as Markdown."""
        tables = (table.markdown_section() for table in self.shown)
        notes = "\n".join(f"- {markdown_text(note)}" for note in self.all_notes)
        return "\n\n".join([f"# {markdown_text(self.title)}", *tables, notes]) + "\n"

    def json(self) -> str:
        """Title, notes and every row of the table as one JSON object; missing values are null."""
        rows = json.loads(self.table.to_json(orient="records"))
        return json.dumps({"title": self.title, "notes": self.all_notes, "rows": rows}, indent=1)

    def write(self, path: Path, safe_csv: bool = False) -> None:
        """Write the table as CSV (every digit; `safe_csv`: no formulas) or the text as Markdown, by its suffix."""
        check_out(path)
        text = csv_text(self.table, safe_csv) if path.suffix == ".csv" else self.markdown()
        write_whole(path, text)


def check_out(path: Path) -> None:
    """Raise `UserError` for a file that `Comparison.write` could not write, before anything is computed."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--out {path}: give a file that ends in {' or '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}; make it, or give another.")


def require_baseline(name: str, records: Iterable[Record]) -> None:
    """Raise `UserError` where a run has no AR to be faster than."""
    if not len(Records.of(records).finished.of_value("label", BASELINE)):
        raise UserError(
            f"{name}: no finished {BASELINE!r} in this run, so it has no speed-ups; run it with {BASELINE}."
        )
