"""`specbench-s2d check RUN --baseline RUN`: a verdict for CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from specbench_s2d.analysis.gate.verdict import Judgement, Tolerances
from specbench_s2d.cli import screen
from specbench_s2d.errors import UserError
from specbench_s2d.files import naming, write_whole

_DEFAULT = Tolerances()


def check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `run` wrote.", show_default=False)],
    baseline: Annotated[
        list[Path],
        typer.Option(
            help="The run to hold it to: its folder, or its manifest.json. Repeatable: further runs of the same code, "
            "whose launches count for times; outputs are held to the first."
        ),
    ],
    speed: Annotated[
        Literal["auto", "judge", "skip"],
        typer.Option(
            help="Times: auto judges them on the baseline's machine and at rest alone, judge always, skip never."
        ),
    ] = "auto",
    require_speed: Annotated[
        bool,
        typer.Option("--require-speed", help="Exit 3, saying why, unless the speed-up of every decoder was judged."),
    ] = False,
    speed_margin: Annotated[
        float, typer.Option(min=0, help="How far a speed-up may fall, as a share.")
    ] = _DEFAULT.speed,
    cost_margin: Annotated[
        float, typer.Option(min=0, help="How far the cost ratio of a draft pass may rise, as a share.")
    ] = _DEFAULT.cost,
    mat_tolerance: Annotated[
        float, typer.Option(min=0, help="How far mean accepted tokens and the acceptance rate may fall, as a share.")
    ] = _DEFAULT.mat,
    perplexity_tolerance: Annotated[
        float, typer.Option(min=0, help="How far the perplexity of equal outputs may lie off, as a share.")
    ] = _DEFAULT.perplexity,
    moved_cells: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a lossy decoder's outputs that may differ.")
    ] = _DEFAULT.moved_cells,
    markdown: Annotated[Path | None, typer.Option(help="Write a summary for a job's page.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML, a test case per check.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every check as JSON on stdout.")] = False,
) -> int:
    """Judge a run against a baseline, for CI.

    Exit code: 0 the run holds, 1 it regressed, 2 bad input, 3 the runs cannot be compared or the run is incomplete
    (it lacks cells or values that the baseline has, or nothing of a decoder could be compared), or, with
    --require-speed, speed was not judged: another device, no times, too few launches, a machine not at rest.
    Outputs, acceptance, perplexity and task quality are compared exactly or within tolerances; at near-ties greedy
    outputs may part. Speed-ups and cost ratios count where they lie beyond their margin and beyond what launches
    differ by among themselves (95 % for all comparisons together): run and baselines need several (run --launches 3).
    The first line says so where speed was not judged; for each decoder the smallest slow-down is given that 80 of 100
    such checks would find. Under GitHub Actions the summary goes to the job's page as well.
    """
    from specbench_s2d.analysis.gate import required, text
    from specbench_s2d.analysis.gate.judge import check_run

    if require_speed and speed == "skip":
        raise UserError("--require-speed with --speed skip: no speed would be judged; give --speed auto, or judge.")
    for path in (markdown, junit):
        if path and not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}; make it, or give another.")
    tolerances = Tolerances(speed_margin, cost_margin, mat_tolerance, perplexity_tolerance, moved_cells=moved_cells)
    judgement = check_run(run, baseline[0], tolerances, speed, baseline[1:])
    if require_speed:
        judgement = required.require_speed(judgement)
    if as_json:
        typer.echo(text.as_json(judgement))
    else:
        screen.stdout().print(text.render(judgement))
    _publish(judgement, markdown, junit)
    return judgement.exit_code


def _publish(judgement: Judgement, markdown: Path | None, junit: Path | None) -> None:
    """Write the files that were asked for, and the job's page under GitHub Actions."""
    from specbench_s2d.analysis.gate import text

    for path, content in ((markdown, text.markdown(judgement)), (junit, text.junit(judgement))):
        if path:
            write_whole(path, content)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with naming(Path(page)), Path(page).open("a", encoding="utf-8") as file:
            file.write(text.markdown(judgement))
