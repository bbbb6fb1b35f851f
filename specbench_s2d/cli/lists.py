"""`specbench-s2d models | decoders`: what there is to run."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def models(as_json: AsJson = False) -> None:
    """List the embedded demo models and the shapes; any folder or hub id works as well."""
    from specbench_s2d.models.demo import demo_models
    from specbench_s2d.models.shapes import shape_rows

    if as_json:
        typer.echo(json.dumps([*demo_models(), *shape_rows()], indent=1))
        return
    _show("Demo models (a folder or a hub id works as well)", demo_models())
    _show("Shapes: real architectures with random weights, to time passes and not to read answers", shape_rows())


def decoders(as_json: AsJson = False) -> None:
    """List decoders with their options and defaults, and the parts that pair up as DRAFTER+VERIFIER."""
    from specbench_s2d.decoding.spec import describe_decoders

    if as_json:
        typer.echo(json.dumps(describe_decoders(), indent=1))
        return
    _show("Decoders (any DRAFTER+VERIFIER pair is one, too)", describe_decoders())


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title)
    for name in rows[0] if rows else ():
        table.add_column(name.replace("_", " "), overflow="fold", no_wrap=name == "name")
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    Console().print(table)
