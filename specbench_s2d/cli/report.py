"""`specbench-s2d report RUN…`: tables and plots from the records of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders that `run` wrote.", show_default=False)],
) -> None:
    """Write summary.csv, summary.md and plots/ into each RUN, and print the table."""
    from specbench_s2d.analysis.report import report_runs
    from specbench_s2d.analysis.tables import render

    Console().print(render(report_runs(runs)))
    for folder in runs:
        Console(stderr=True).print(f"wrote {folder}/summary.csv, summary.md and plots/", soft_wrap=True, markup=False)
