"""`specbench-s2d run`: the grid of targets, decoders and suites."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from specbench_s2d.cli import screen
from specbench_s2d.cli.flags import SafeCsv, flag_words, flags_from, given_flags
from specbench_s2d.cli.hash_line import hashes_shown
from specbench_s2d.config import RunSpec, make_spec
from specbench_s2d.display import visible
from specbench_s2d.errors import UserError

_MOST_FAILURES = 5  # lines at the end of a run
_PrintSlurm = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        help="Print a file that submits the grid as a Slurm array job of N shards, with the job that merges them into "
        "--out; run nothing.",
    ),
]
_Ray = Annotated[
    bool,
    typer.Option(
        "--ray", help="Run the workers of --devices (default: all) on a Ray cluster, one started here by default."
    ),
]
_RayAddress = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="HOST:PORT of the Ray cluster's head, or auto for that of this node."),
]
_AllowMixed = Annotated[
    bool,
    typer.Option("--allow-mixed", help="Take workers whose libraries, drivers, code or device models differ."),
]


@flags_from(RunSpec.model_fields, "given", given_flags, dict.fromkeys(RunSpec.model_fields))
def run(
    spec: Annotated[Path | None, typer.Argument(metavar="[SPEC.toml]", help="Run file; flags win over it.")] = None,
    *,
    given: dict[str, Any],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; the same command continues a run that was stopped; default: a new one under "
            "results/runs."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print cells, memory in GB and expected time, or what the run would refuse; run nothing."
        ),
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run the failed cells of --out again.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the table, a row per target, decoder and suite, as JSON on stdout.")
    ] = False,
    safe_csv: SafeCsv = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop (exit 3) as soon as the machine is found unfit to measure on."),
    ] = False,
    print_slurm: _PrintSlurm = None,
    ray: _Ray = False,
    ray_address: _RayAddress = None,
    allow_mixed: _AllowMixed = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> int:
    """Run a grid of targets, decoders and suites; without arguments, the demo grid.

    A cell is one turn of one question, decoded by one decoder on one target. Exit code: 0 when every cell is ok, 1 when
    a cell failed or a lossless decoder's tokens were not those of autoregressive decoding, 2 for bad input, 3 with
    --strict on a machine unfit to measure on (busy, throttled, restless, more threads than cores, a debug build), 130
    after Ctrl-C.
    """
    from specbench_s2d.bench.drafts import narrowed
    from specbench_s2d.bench.plan import make_plan

    asked = make_spec(spec, narrowed(spec, given))
    ray = ray or ray_address is not None
    if print_slurm:
        others = {"--dry-run": dry_run, "--json": as_json, "--devices": asked.devices is not None, "--ray": ray}
        others |= {"--allow-mixed": allow_mixed}
        command = ["run", *([str(spec)] if spec else []), *flag_words(given)]
        command += ["--retry-failed"] * retry_failed + ["--strict"] * strict
        command += ["--safe-csv"] * safe_csv
        return _print_slurm(asked, print_slurm, command, out, [flag for flag, is_given in others.items() if is_given])
    if ray and asked.devices is None:
        asked = asked.model_copy(update={"devices": "all"})
    with hashes_shown(screen.stderr()):
        plan = make_plan(asked, elsewhere=partial(_dtype_there, ray_address) if ray else None)
    count, launcher = _launcher(plan, ray, ray_address, allow_mixed)
    folder = out or _new_folder()
    if dry_run:
        return _dry_run(plan, folder, as_json, count)
    from specbench_s2d.bench.launches import run_launches

    execute = partial(run_launches, plan, folder, retry_failed=retry_failed, strict=strict, launcher=launcher)
    return execute_and_print(plan, folder, execute, as_json, safe_csv)


def _dtype_there(ray_address: str | None) -> Any:
    """The number format by default of the GPUs of a Ray cluster."""
    from specbench_s2d.bench.ray_workers import connect, default_dtype_there

    return default_dtype_there(connect(ray_address))


def _launcher(plan: Any, on_ray: bool, ray_address: str | None, allow_mixed: bool) -> tuple[int | None, Any]:
    """How many workers run the plan, and what runs a launch with them; None for none but this process."""
    if plan.spec.devices is None:
        if allow_mixed:
            raise UserError(
                "--allow-mixed: is about several workers; give --devices or --ray with it, or leave it out."
            )
        return None, None
    from specbench_s2d.bench.pool import in_pool

    if on_ray:
        from specbench_s2d.bench.ray_workers import RayWorkers, connect, resources_each

        ray = connect(ray_address)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        count, each = resources_each(plan.spec.devices, plan.spec.device, nodes)
        make_workers: Any = partial(RayWorkers, ray, count, each, plan.spec.device == "cpu")
        return count, in_pool(make_workers, allow_mixed)
    from specbench_s2d.bench.devices import seats
    from specbench_s2d.bench.local_workers import LocalWorkers

    where = seats(plan.spec.devices, plan.spec.device)
    return len(where), in_pool(partial(LocalWorkers, where), allow_mixed)


def _print_slurm(spec: RunSpec, shards: int, command: list[str], out: Path | None, others: list[str]) -> int:
    """Print the file of a Slurm array job; raise `UserError` where other flags say to do something else."""
    if others:
        raise UserError(f"--print-slurm {shards}: runs nothing, and prints a file for bash; leave {others[0]} out.")
    from specbench_s2d.cli.slurm import script

    text = script(spec, shards, command, out or _new_folder())
    if visible(text, keep="\n\t") != text:
        raise UserError(f"--print-slurm {shards}: a name holds control characters; rename what bears it.")
    sys.stdout.buffer.write(text.encode())  # a file: UTF-8, whatever the locale
    return 0


def _new_folder() -> Path:
    import datetime

    return Path("results/runs") / datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]


def _dry_run(plan: Any, folder: Path, as_json: bool, workers: int | None) -> int:
    """Print the forecast; raises what the run would raise, for want of memory or of an engine once the forecast, which
    has the figures, is printed."""
    from specbench_s2d.bench import preflight
    from specbench_s2d.bench.forecast import forecast
    from specbench_s2d.cli.live import forecast_table
    from specbench_s2d.models.devices import share_of_host

    with hashes_shown(screen.stderr()):
        preflight.check_folder(plan, folder, with_records=True)
    setups = preflight.check_inputs(plan, share_of_host(workers or 1))
    expected = forecast(plan, workers, setups)
    if as_json:
        typer.echo(json.dumps(expected, indent=1))
    else:
        screen.stdout().print(forecast_table(expected))
    for line in plan.said:
        screen.stderr().say(line)
    preflight.check_devices(plan, setups)
    return 0


def execute_and_print(
    plan: Any, folder: Path, execute: Callable[[Any], Any], as_json: bool = False, safe_csv: bool = False
) -> int:
    """Execute a plan under a live display, write its tables and print one; the exit code. `execute`: runs the plan into
    the folder, telling a `Watcher`, and gives the `Outcome`."""
    from specbench_s2d.analysis.report.write import WRITTEN, run_doubts, write_summary
    from specbench_s2d.analysis.tables.remarks import alarms, failures
    from specbench_s2d.analysis.tables.summary_text import headline, more_lines
    from specbench_s2d.cli.live import Live

    console = screen.stderr()
    try:
        with Live(console, plan) as live:
            outcome = execute(live.on_event)
            records = outcome.records
    except KeyboardInterrupt:
        console.say(f"stopped. Every record so far is whole; go on with the same command and --out {folder}")
        return 130
    table, doubts = write_summary(records, folder, safe_csv), run_doubts([folder])
    if as_json:
        sys.stdout.write(table.to_json(orient="records", indent=1) + "\n")
    else:
        screen.stdout().print(headline(table, doubts))
    failed = failures(records)
    more = [f"{more_lines(len(failed) - _MOST_FAILURES)}: report.html"] if len(failed) > _MOST_FAILURES else []
    for line in (*((*doubts, *alarms(table)) if as_json else ()), *failed[:_MOST_FAILURES], *more):
        console.say(line)
    console.say(f"wrote {folder}/records.jsonl, manifest.json, {WRITTEN}")
    return 1 if outcome.failed or outcome.mismatched else 0
