"""`specbench-s2d export | import`: to and from other programs' files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `run` wrote.", show_default=False)],
    form: Annotated[
        Literal["spec-bench", "csv", "parquet", "latex", "markdown"],
        typer.Option("--format", help="Spec-Bench's answer files, flat tables, or a table in its leaderboard's shape."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write into; files of other names there stay.")],
    speedup: Annotated[
        Literal["speedup_specbench", "speedup", "speedup_e2e"],
        typer.Option(help="The speed-up that latex and markdown show."),
    ] = "speedup_specbench",
) -> None:
    """Write a run as Spec-Bench's answer files, CSV, Parquet, or a leaderboard in LaTeX or Markdown."""
    from specbench_s2d.analysis.export import export as write

    written, lost = write(run, form, out, speedup)
    console = Console(stderr=True)
    for line in (*lost, *(f"wrote {path}" for path in written)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Answer files, of Spec-Bench or of `export`.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run to write; new.")],
    target: Annotated[
        str | None, typer.Option(help="What every model_id begins with, for files of other programs.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="The model_id of plain decoding, which becomes ar.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Model or folder whose tokenizer counts the texts' tokens, as Spec-Bench does.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="The temperature that the files were made at.")] = 0.0,
) -> None:
    """Read Spec-Bench's answer files into a run that report, compare and export work on."""
    from specbench_s2d.bench.importing import Names, import_files

    count = None
    if tokenizer:
        from specbench_s2d.models.load import read_outline

        loaded = read_outline(tokenizer).tokenizer

        def count(text: str) -> int:
            return len(loaded.encode(text)) - 1

    records = import_files(files, out, Names(target, baseline), temperature, count)
    runs = dict.fromkeys(f"{record.target}, {record.label}" for record in records)
    Console(stderr=True).print(f"wrote {out}: {len(records)} turns of {'; '.join(runs)}", markup=False, soft_wrap=True)
