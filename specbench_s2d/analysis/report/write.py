"""What a run's folder gets from its records: tables, plots and one HTML page; for one run, or for several together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from specbench_s2d.analysis.report.html.page import Run, write_page
from specbench_s2d.analysis.report.plots.draw import draw_all
from specbench_s2d.analysis.tables.head import manifest_doubts
from specbench_s2d.analysis.tables.series import PlotTables
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.analysis.tables.summary_text import write_tables
from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.files import cause, remedy, why_no_folder
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.folder import MANIFEST, RECORDS, read_manifest, records_path
from specbench_s2d.runs.reading import read_columns
from specbench_s2d.runs.record import Record

PAGE = "report.html"
WRITTEN = f"summary.csv, summary.md, {PAGE} and plots/"
"""What `write_summary` leaves in a run's folder."""


def read_run(folder: Path) -> Records:
    """The records of a run's folder; raises `RunFolderError` where there is no folder, or no record in it."""
    return read_runs([folder])[0]


def read_runs(folders: Sequence[Path]) -> list[Records]:
    """The records of several runs as rows of the same columns; raises likewise."""
    for folder in folders:
        if not folder.is_dir():
            there = "is no folder" if folder.exists() else "no such folder"
            raise RunFolderError(f"{folder}: {there}; give the folder that `specbench-s2d run` wrote (its --out).")
    read = read_columns(*folders)
    for folder, records in zip(folders, read, strict=True):
        if not len(records):
            path = records_path(folder)
            go_on = f"go on with `specbench-s2d run --out {folder}`" if path.name == RECORDS else "fetch it again"
            raise RunFolderError(f"{path}: no record in it yet; {go_on}.")
    return read


def write_summary(records: Iterable[Record], folder: Path, safe_csv: bool = False) -> pd.DataFrame:
    """Write `summary.csv` (`safe_csv`: without formulas), `summary.md`, `plots/` and `report.html` into a run's folder;
    returns the summary table.

    Raises `RunFolderError` where the folder cannot be written, or holds a manifest that cannot be read.
    """
    return _summarise(records, folder, safe_csv).table


def run_doubts(folders: Sequence[Path]) -> list[str]:
    """What the manifests of runs hold against their figures; of several runs each line begins with its run's name."""
    lines = []
    for folder in folders:
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
        name = f"{folder.resolve().name}: " if len(folders) > 1 else ""
        lines += [f"{name}{line}" for line in manifest_doubts(manifest)]
    return lines


def _summarise(given: Iterable[Record], folder: Path, safe_csv: bool) -> Run:
    records = Records.of(given)
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    table = summary_table(records)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_tables(table, folder, manifest_doubts(manifest), safe_csv)
        drawn = draw_all(PlotTables.of(records, table), folder / "plots")
        run = Run(folder.resolve().name, records, table, manifest, drawn)
        write_page([run], folder / PAGE)
    except OSError as error:
        raise RunFolderError(
            f"{folder}: the summary cannot be written ({cause(error)}); the records are untouched. "
            f"For the tables {remedy(error, 'mend that')}, then `specbench-s2d report {folder}`."
        ) from error
    return run


def report_runs(folders: Sequence[Path], out: Path | None = None, safe_csv: bool = False) -> pd.DataFrame:
    """Summarise each run in its own folder, and all of them in the page `out`, where one is asked for.

    Several come back as one table with a `run` column in front. Speed-ups never cross runs: each is measured against
    the AR of its own run. `safe_csv`: as of `write_summary`. Raises `UserError` where `out` cannot be written.
    """
    if out is not None:
        _check_page(out)
    given = list({os.path.realpath(folder): folder for folder in folders}.values())
    for folder in given:
        if folder.is_dir() and (why := why_no_folder(folder)):
            raise RunFolderError(f"{folder}: {why}; copy the run to where its tables can be written.")
    read = [(folder, read_run(folder)) for folder in given]
    runs = [_summarise(records, folder, safe_csv) for folder, records in read]
    names = [run.name for run in runs]
    runs = [
        replace(run, name=run.name if names.count(run.name) == 1 else str(folder))
        for run, folder in zip(runs, given, strict=True)
    ]
    if out is not None:
        _write_shared_page(runs, out)
    return runs[0].table if len(runs) == 1 else _together(runs)


def _together(runs: Sequence[Run]) -> pd.DataFrame:
    for run in runs:
        run.table.insert(0, "run", run.name)
    return pd.concat([run.table for run in runs], ignore_index=True)


def _check_page(out: Path) -> None:
    if out.suffix != ".html" or out.is_dir():
        raise UserError(f"--out {out}: not the name of an HTML file; give one that ends in .html.")
    if why := why_no_folder(out.parent):
        raise UserError(f"--out {out}: its folder {why}; give another file.")


def _write_shared_page(runs: Sequence[Run], out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_page(runs, out)
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot be written ({cause(error)}); {remedy(error, 'mend that')}, or give another file."
        ) from error
