"""`specbench-s2d project`: expected speed-ups from measured pass costs and given acceptances."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specbench_s2d.cli import screen
from specbench_s2d.cli.flags import SafeCsv, flags_from, given_flags
from specbench_s2d.cli.hash_line import hashes_shown
from specbench_s2d.config import RunSpec, make_spec
from specbench_s2d.files import why_no_folder, write_whole

if TYPE_CHECKING:
    from specbench_s2d.analysis.projection.table import Device
    from specbench_s2d.bench.pass_costs import PassRun
    from specbench_s2d.measure.pass_costs import Cost

_PLACE = {name: RunSpec.model_fields[name] for name in ("device", "dtype", "engine")}


@flags_from(_PLACE, "place", lambda values: make_spec(None, given_flags(values)), dict.fromkeys(_PLACE))
def project(
    target: Annotated[
        list[str], typer.Option(help="Models to speed up: demo name, folder, hub id, or shape:NAME; repeatable.")
    ],
    draft: Annotated[str, typer.Option(help="The draft model, likewise.")],
    acceptance: Annotated[str, typer.Option(help="A recorded run's folder, or published:PAPER, as published:s2d.")],
    stand_ins: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="TARGET=PAPER_TARGET",
            help="With published:PAPER: the paper's target whose acceptances a target takes; repeatable.",
        ),
    ] = None,
    *,
    place: RunSpec,
    context: Annotated[int, typer.Option(min=1, help="Tokens in the caches while passes are timed.")] = 512,
    gamma_max: Annotated[int, typer.Option(min=1, help="Longest draft to project, in tokens.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print every value as JSON on stdout.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write projection.csv and projection.md into.")] = None,
    safe_csv: SafeCsv = False,
) -> None:
    """Project speed-ups: time single passes here, multiply by the acceptances of a run or of a paper.

    Nothing is decoded, so random weights (shape:…) do as well; every value is marked as projected.
    """
    from specbench_s2d.analysis.projection import table as projection_table
    from specbench_s2d.analysis.projection import text as projection_text
    from specbench_s2d.analysis.projection.acceptances import Acceptances
    from specbench_s2d.analysis.tables.csv_text import csv_text
    from specbench_s2d.bench.pass_costs import Place, check_targets, pass_runs
    from specbench_s2d.errors import UserError
    from specbench_s2d.measure.attention import planless_attention
    from specbench_s2d.models.load import hide_progress_bars
    from specbench_s2d.models.named import full_name

    if out and (why := why_no_folder(out)):
        raise UserError(f"--out {out}: {why}; give another.")
    target, draft = [full_name(name) for name in target], full_name(draft)
    given = Acceptances.find(acceptance, target, _pairs(stand_ins or ()))
    where = Place(place.device, place.dtype, place.engine)
    models = check_targets(target, draft, where, context + gamma_max + 1)
    hide_progress_bars()
    rows: list[dict[str, Any]] = []
    widths = range(1, gamma_max + 2)
    with planless_attention(), hashes_shown(screen.stderr()):  # as in a run
        runs = list(pass_runs(models, target, draft, where, widths, context, screen.stderr().say))
    for run in runs:
        figures = given.published.get(run.given)
        if figures:
            rows += projection_table.of_paper(figures, _device(run), gamma_max)
        else:
            rows += projection_table.of_run(given.records, _device(run), gamma_max)
    table = projection_table.table_of(rows)
    if as_json:
        typer.echo(table.to_json(orient="records", indent=1))
    else:
        screen.stdout().print(projection_text.render(table))
    if out:
        _write(out, {"projection.csv": csv_text(table, safe_csv), "projection.md": projection_text.markdown(table)})


def _pairs(stand_ins: Iterable[str]) -> dict[str, str]:
    from specbench_s2d.errors import UserError
    from specbench_s2d.models.named import full_name

    pairs: dict[str, str] = {}
    for given in stand_ins:
        ours, _, theirs = given.rpartition("=")
        if not ours or not theirs:
            raise UserError(f"--as {given}: give TARGET=PAPER_TARGET.")
        if pairs.setdefault(full_name(ours), theirs) != theirs:
            raise UserError(f"--as {given}: {ours} was given as {pairs[full_name(ours)]} already; keep one of them.")
    return pairs


def _device(run: PassRun) -> Device:
    """Timed passes as the projection's plain arrays, seconds per round."""
    import numpy as np

    from specbench_s2d.analysis.projection.table import Device

    def seconds(cost: Cost) -> Any:
        return np.array(cost.rounds_s)

    costs = run.costs
    return Device(
        run.target,
        run.draft,
        seconds(costs.ar),
        100 * costs.ar_read_bytes / run.read_rate_bytes_per_s / costs.ar.median_s,
        np.array([seconds(cost) for cost in costs.verify.values()]),
        {chain.depth: (seconds(chain.cold), seconds(chain.warm)) for chain in costs.chains},
        {stage.depth: (seconds(stage.cold), seconds(stage.warm)) for stage in costs.stages},
    )


def _write(out: Path, files: dict[str, str]) -> None:
    """Each file whole or not there."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_whole(out / name, text)
    screen.stderr().say(f"wrote {', '.join(str(out / name) for name in files)}")
