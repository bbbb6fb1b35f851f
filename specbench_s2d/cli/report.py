"""`specbench-s2d report RUN…`: tables, plots and an HTML page from the records of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench_s2d.cli import screen
from specbench_s2d.cli.flags import SafeCsv


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders that `run` wrote.", show_default=False)],
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="One page that holds all RUNs.")] = None,
    safe_csv: SafeCsv = False,
) -> None:
    """Write summary.csv, summary.md, report.html and plots/ into each RUN, and print the table."""
    from specbench_s2d.analysis.report.write import WRITTEN, report_runs, run_doubts
    from specbench_s2d.analysis.tables.summary_text import render

    screen.stdout().print(render(report_runs(runs, out, safe_csv), run_doubts(runs)))
    for wrote in (*(f"{folder}/{WRITTEN}" for folder in runs), *([out] if out else [])):
        screen.stderr().say(f"wrote {wrote}")
