"""`specbench-s2d run`: the grid of targets, decoders and suites."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from specbench_s2d.config import RunSpec, make_spec


def _help(name: str) -> str:
    return str(RunSpec.model_fields[name].description)


def run(
    context: typer.Context,
    spec: Annotated[Path | None, typer.Argument(metavar="[SPEC.toml]", help="Run file; flags win over it.")] = None,
    target: Annotated[list[str] | None, typer.Option(help=_help("target"))] = None,
    draft: Annotated[list[str] | None, typer.Option(help=_help("draft"))] = None,
    decoder: Annotated[list[str] | None, typer.Option(help=_help("decoder"))] = None,
    suite: Annotated[list[str] | None, typer.Option(help=_help("suite"))] = None,
    questions: Annotated[str | None, typer.Option(help=_help("questions"))] = None,
    limit: Annotated[int | None, typer.Option(help=_help("limit"))] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help=_help("max_new_tokens"))] = None,
    ignore_eos: Annotated[bool | None, typer.Option("--ignore-eos", help=_help("ignore_eos"))] = None,
    temperature: Annotated[float | None, typer.Option(help=_help("temperature"))] = None,
    top_k: Annotated[int | None, typer.Option(help=_help("top_k"))] = None,
    top_p: Annotated[float | None, typer.Option(help=_help("top_p"))] = None,
    repeats: Annotated[int | None, typer.Option(help=_help("repeats"))] = None,
    seed: Annotated[int | None, typer.Option(help=_help("seed"))] = None,
    device: Annotated[str | None, typer.Option(help=_help("device"))] = None,
    dtype: Annotated[str | None, typer.Option(help=_help("dtype"))] = None,
    engine: Annotated[str | None, typer.Option(help=_help("engine"))] = None,
    template: Annotated[str | None, typer.Option(help=_help("template"))] = None,
    long_prompts: Annotated[str | None, typer.Option(help=_help("long_prompts"))] = None,
    replay_turns: Annotated[str | None, typer.Option(help=_help("replay_turns"))] = None,
    energy: Annotated[str | None, typer.Option(help=_help("energy"))] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; the same command goes on there.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print cells, memory and expected time; run nothing.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tidy table as JSON on stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> int:
    """Run a grid of targets, decoders and suites; without arguments, the demo grid.

    Exit code: 0 when every cell is ok, 1 when a cell failed or a lossless decoder mismatched, 2 for bad input,
    130 after Ctrl-C.
    """
    from specbench_s2d.bench.drafts import narrowed
    from specbench_s2d.bench.plan import make_plan

    flags = {n: v for n, v in context.params.items() if n in RunSpec.model_fields and v not in (None, [], ())}
    plan = make_plan(make_spec(spec, narrowed(spec, flags)))
    if dry_run:
        return _dry_run(plan, as_json)
    return _execute(plan, out or _new_folder(), retry_failed, as_json)


def _new_folder() -> Path:
    import datetime

    return Path("results/runs") / datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]


def _dry_run(plan: Any, as_json: bool) -> int:
    from specbench_s2d.bench.forecast import forecast
    from specbench_s2d.cli.live import forecast_table

    expected = forecast(plan)
    if as_json:
        typer.echo(json.dumps(expected, indent=1))
    else:
        Console().print(forecast_table(expected))
    return 0


def _execute(plan: Any, folder: Path, retry_failed: bool, as_json: bool) -> int:
    from specbench_s2d.analysis.report.write import WRITTEN, write_summary
    from specbench_s2d.analysis.tables.remarks import alarms
    from specbench_s2d.analysis.tables.summary_text import render
    from specbench_s2d.bench.runner import execute
    from specbench_s2d.cli.live import Live

    console = Console(stderr=True)
    try:
        with Live(console, plan) as live:
            outcome = execute(plan, folder, live.on_event, retry_failed)
    except KeyboardInterrupt:
        _tell(console, f"stopped. Every record so far is whole; go on with the same command and --out {folder}")
        return 130
    table = write_summary(outcome.records, folder)
    if as_json:
        sys.stdout.write(table.to_json(orient="records", indent=1) + "\n")
    else:
        Console().print(render(table))
    for alarm in alarms(table):
        _tell(console, alarm)
    _tell(console, f"wrote {folder}/records.jsonl, manifest.json, {WRITTEN}")
    return 1 if outcome.failed or outcome.mismatched else 0


def _tell(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
