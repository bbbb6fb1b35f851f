"""What a run's folder gets from its records: tables and plots; for one run, or for several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from specbench_s2d.analysis import plots, tables, tidy
from specbench_s2d.analysis.figure_tables import FigureTables
from specbench_s2d.bench.records import Record
from specbench_s2d.bench.store import RECORDS, read_records
from specbench_s2d.errors import RunFolderError


def read_run(folder: Path) -> list[Record]:
    """The records of a run's folder; raises `RunFolderError` where there is no folder, or no record in it."""
    if not folder.is_dir():
        raise RunFolderError(f"{folder}: no such folder; give the folder that `specbench-s2d run` wrote (its --out).")
    records = read_records(folder)
    if not records:
        raise RunFolderError(f"{folder / RECORDS}: no record in it yet; go on with `specbench-s2d run --out {folder}`.")
    return records


def write_summary(records: Sequence[Record], folder: Path) -> pd.DataFrame:
    """Write `summary.csv`, `summary.md` and `plots/` into a run's folder; returns the tidy table.

    Raises `RunFolderError` where the folder cannot be written.
    """
    table = tidy.tidy(records)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tables.write_tables(table, folder)
        plots.draw_all(FigureTables.of(records, table), folder / "plots")
    except OSError as error:
        raise RunFolderError(
            f"{folder}: the summary cannot be written ({error.strerror or error}); the records are untouched. "
            f"Free the folder, then `specbench-s2d report {folder}`."
        ) from error
    return table


def report_runs(folders: Sequence[Path]) -> pd.DataFrame:
    """Summarise each run in its own folder; several come back as one table with a `run` column in front.

    Speed-ups never cross runs: each is measured against the AR of its own run.
    """
    runs = list({folder.resolve(): folder for folder in folders}.items())
    read = [(folder, read_run(folder)) for _, folder in runs]
    written = [(folder, write_summary(records, folder)) for folder, records in read]
    if len(written) == 1:
        return written[0][1]
    names = [folder.resolve().name for folder, _ in written]
    for (folder, table), name in zip(written, names, strict=True):
        table.insert(0, "run", name if names.count(name) == 1 else str(folder))
    return pd.concat([table for _, table in written], ignore_index=True)
