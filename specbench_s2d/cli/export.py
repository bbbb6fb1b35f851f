"""`specbench-s2d export RUN --format F --out DIR`: a run for other people's scripts, tables and papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `run` wrote.", show_default=False)],
    form: Annotated[
        str,
        typer.Option("--format", metavar="spec-bench|csv|parquet|latex|markdown", help="What to write.",
                     show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write into.", show_default=False)],
) -> None:  # fmt: skip
    """Write RUN as Spec-Bench's answer files, as flat tables, or as a leaderboard for a paper."""
    from specbench_s2d.exchange.export import export as write

    done = write(run, form, out)
    console = Console(stderr=True, emoji=False)
    for note in done.notes:
        console.print(f"left out: {note}", markup=False, highlight=False, soft_wrap=True)
    for path in done.written:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
