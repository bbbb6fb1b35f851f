"""`specbench-s2d export RUN --format F --out DIR`: a run for other people's scripts, tables and papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench_s2d.cli import screen
from specbench_s2d.cli.flags import SafeCsv


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `run` wrote.", show_default=False)],
    form: Annotated[
        str,
        typer.Option("--format", metavar="spec-bench|csv|parquet|latex|markdown", help="What to write.",
                     show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write into.", show_default=False)],
    safe_csv: SafeCsv = False,
) -> None:  # fmt: skip
    """Write RUN as Spec-Bench's answer files, as flat tables, or as a leaderboard for a paper."""
    from specbench_s2d.exchange.export import export as write

    done = write(run, form, out, safe_csv)
    for line in (*(f"left out: {note}" for note in done.notes), *(f"wrote {path}" for path in done.written)):
        screen.stderr().say(line)
