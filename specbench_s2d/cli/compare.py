"""`specbench-s2d compare A B`: side by side, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def compare(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `run` wrote.", show_default=False)],
    other: Annotated[
        str | None, typer.Argument(metavar="[RUN|published:PAPER]", help="What to compare with: a run, or a paper.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Compare the decoders of RUN with this one of them, by its label.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write this file too: .csv (every figure) or .md.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON on stdout.")] = False,
) -> None:
    """Set a run beside another run, beside a paper's figures (published:s2d), or its decoders beside one of them."""
    from specbench_s2d.analysis.compare import request as comparisons

    if out:
        comparisons.check_out(out)
    comparison = comparisons.compare(run, other, against)
    if as_json:
        typer.echo(comparisons.as_json(comparison))
    else:
        Console().print(comparisons.render(comparison))
    if out:
        comparisons.write(comparison, out)
        Console(stderr=True).print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)
