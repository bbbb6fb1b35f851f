"""`specbench-s2d compare A B`: two runs, a run and a paper, or the decoders of a run, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench_s2d.cli import screen
from specbench_s2d.cli.flags import SafeCsv
from specbench_s2d.errors import UserError


def compare(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `run` wrote.", show_default=False)],
    other: Annotated[
        str | None, typer.Argument(metavar="[RUN|published:PAPER]", help="What to compare with: a run, or a paper.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Compare the decoders of RUN with this one of them, by its label.")
    ] = None,
    stand_ins: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="TARGET=PAPER_TARGET",
            help="With published:PAPER: the paper's target that a target of RUN is set beside; as LABEL=METHOD, the "
            "paper's method that a decoder stands for; repeatable.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write this file too: .csv (every value) or .md.")] = None,
    safe_csv: SafeCsv = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every value as JSON on stdout.")] = False,
) -> None:
    """Compare a run with another run, with a paper's values (published:s2d), or its decoders with one of them."""
    from specbench_s2d.analysis.compare import folders
    from specbench_s2d.analysis.compare.comparison import check_out

    if out:
        check_out(out)
    if safe_csv and (out is None or out.suffix != ".csv"):
        raise UserError("--safe-csv: no CSV is written; give --out FILE.csv with it, or leave it out.")
    comparison = folders.compare(run, other, against, stand_ins or [])
    if as_json:
        typer.echo(comparison.json())
    else:
        screen.stdout().print(comparison.terminal())
    if out:
        comparison.write(out, safe_csv)
        screen.stderr().say(f"wrote {out}")
