"""`specbench-s2d decoders`: the methods that there are to run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specbench_s2d.cli import screen

if TYPE_CHECKING:
    from specbench_s2d.analysis.tables.text import TextTable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def decoders(as_json: AsJson = False) -> None:
    """List decoders with their options and defaults, and the parts that pair up as DRAFTER+VERIFIER."""
    from specbench_s2d.decoding.spec import describe_decoders

    if as_json:
        typer.echo(json.dumps(describe_decoders(), indent=1))
        return
    pairs = "a DRAFTER+VERIFIER pair is one, too; first(A|B) is a drafter that asks B where A finds nothing"
    titles = {"decoder": f"Decoders ({pairs})", "drafter": "Drafters"}
    rows = describe_decoders()
    for kind in dict.fromkeys(row["kind"] for row in rows):
        screen.stdout().print(_parts([row for row in rows if row["kind"] == kind], titles.get(kind, "Verifiers")))


def _parts(rows: list[dict[str, Any]], title: str) -> TextTable:
    """The rows of one kind, without the columns that its kind leaves empty; options below what they belong to."""
    from specbench_s2d.analysis.tables.text import NOTHING, TextTable

    shown = ["name", "from", *(name for name in ("output", "draft") if any(row[name] for row in rows))]
    cells = []
    for row in rows:
        options = row["options"] if row["options"] not in (None, "none") else ""
        told = "\n".join(filter(None, (row["what"], options)))
        cells.append([*(NOTHING if row[name] is None else row[name] for name in shown), told])
    headings = [*shown, "what it does; options=defaults, a name alone where there is none"]
    return TextTable(headings, cells, title, left=len(headings), names=0, spare=(1,), elsewhere="--json")
