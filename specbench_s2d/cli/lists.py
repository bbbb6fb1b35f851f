"""`specbench-s2d decoders`: the methods that there are to run."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
        Console(emoji=False).print(_parts([row for row in rows if row["kind"] == kind], titles.get(kind, "Verifiers")))


def _parts(rows: list[dict[str, Any]], title: str) -> Table:
    """The rows of one kind, without the columns that its kind leaves empty; options below what they belong to."""
    shown = ["name", "from", *(name for name in ("output", "draft") if any(row[name] for row in rows))]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in shown:
        table.add_column(name, no_wrap=name != "from")
    table.add_column("what it does; options and defaults")
    for row in rows:
        options = row["options"] if row["options"] not in (None, "none") else ""
        cells = ["-" if row[name] is None else row[name] for name in shown]
        table.add_row(*map(Text, (*cells, "\n".join(filter(None, (row["what"], options))))))
    return table
