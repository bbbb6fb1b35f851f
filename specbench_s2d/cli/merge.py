"""`specbench-s2d merge RUN… --out RUN`: the runs of shards as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench_s2d.cli import screen


def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders that `run --shard I/N` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder to write, a new one.", show_default=False)],
    allow_mixed: Annotated[
        bool,
        typer.Option("--allow-mixed", help="Take parts whose libraries, drivers, code or device models differ."),
    ] = False,
) -> int:
    """Join the runs of shards to one run; the parts stay as they are.

    Every cell may be in one part alone, and all parts must be of one plan. Speed-ups pair cells of one device.
    Exit code: 0 when the plan is complete, 1 when shards or cells are missing, 2 for runs that cannot be joined.
    """
    from specbench_s2d.runs.merge import merge as join

    merged = join(runs, out, allow_mixed)
    devices = f"{merged.devices} device{'s' * (merged.devices != 1)}"
    left = merged.cells - merged.records
    screen.stdout().say(f"{out}: {merged.records:,} records of {merged.cells:,} cells, on {devices}")
    if merged.missing:
        screen.stderr().say(f"missing: shard {', '.join(merged.missing)}; run them, then merge into a new folder.")
    elif left:
        screen.stderr().say(f"missing: {left:,} cells; go on with the runs of their shards, then merge again.")
    screen.stdout().say(f"next: specbench-s2d report {out}")
    return 1 if merged.missing or left else 0
