"""Does the gate hold its word? Unchanged runs must pass, planted regressions must not.

    python benchmarks/gate.py [--runs 11] [--decoder … as for run] [--target …] [--folder DIR] [--out FILE]

Unchanged runs of the demo grid, each held to the three that follow it in a circle. Then three with something planted,
held to the first three: every draft pass made 30 % longer by waiting; a verifier that accepts one token less than it
should (outputs stay right, acceptance falls); one that accepts one more (outputs change). Each run is a process of its
own, as in CI, and is judged by `specbench-s2d check`. With --folder, runs that are there already are not made again.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter
from typing import Annotated, Any

import typer

from specbench_s2d.analysis.gate.judge import check_run
from specbench_s2d.bench import session
from specbench_s2d.bench.plan import make_plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.measure.environment import environment
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.load import hide_progress_bars
from specbench_s2d.runs.folder import MANIFEST, read_manifest

SLOWER = 0.3
BASELINES = 3
Judge = Callable[..., Verdict]


@contextlib.contextmanager
def slow_drafts() -> Iterator[None]:
    """Every pass of a draft takes 30 % longer."""
    load = session.load_model

    def slowed(name: str, **where: Any) -> LanguageModel:
        model = load(name, **where)
        if "draft" in model.name:
            _slow(model)
        return model

    with _replaced(session, "load_model", slowed):
        yield


def _slow(model: Any) -> None:
    """Lengthen each pass and each reading of the head once, though a pass may read the head itself."""
    inside = False

    def longer(run: Callable[..., Any]) -> Callable[..., Any]:
        def waiting(*arguments: Any, **options: Any) -> Any:
            nonlocal inside
            if inside:
                return run(*arguments, **options)
            inside, began = True, perf_counter()
            result = run(*arguments, **options)
            until = perf_counter() + SLOWER * (perf_counter() - began)
            while perf_counter() < until:
                pass
            inside = False
            return result

        return waiting

    model.extend, model.head = longer(model.extend), longer(model.head)


@contextlib.contextmanager
def one_token_less() -> Iterator[None]:
    """The verifier rejects the last token that it should accept; what follows is that very token."""
    with _judged(lambda verdict, ids: _cut(verdict, ids) if verdict.accepted else verdict):
        yield


def _cut(verdict: Verdict, ids: list[int]) -> Verdict:
    path = list(range(verdict.accepted)) if verdict.path is None else verdict.path
    shorter = None if verdict.path is None else path[:-1]
    return replace(verdict, accepted=verdict.accepted - 1, next_id=ids[path[-1]], path=shorter)


@contextlib.contextmanager
def one_token_more() -> Iterator[None]:
    """The verifier accepts a drafted token that the target would not have chosen."""
    with _judged(
        lambda verdict, ids: (
            replace(verdict, accepted=verdict.accepted + 1)
            if verdict.path is None and verdict.accepted < len(ids)
            else verdict
        )
    ):
        yield


@contextlib.contextmanager
def _judged(change: Callable[[Verdict, list[int]], Verdict]) -> Iterator[None]:
    judge: Judge = TokenVerifier.judge

    def changed(self: TokenVerifier, proposal: Proposal, *rest: Any) -> Verdict:
        return change(judge(self, proposal, *rest), proposal.ids_G.tolist())

    with _replaced(TokenVerifier, "judge", changed):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


PLANTED = {"slow_draft": slow_drafts, "one_token_less": one_token_less, "one_token_more": one_token_more}


def run_here(folder: Path, targets: list[str], decoders: list[str]) -> None:
    """One run in this process, with whatever its folder's name says planted."""
    hide_progress_bars()
    with PLANTED.get(folder.name, contextlib.nullcontext)():
        execute(make_plan(RunSpec(target=targets, decoder=decoders, device="cpu")), folder)


def run_apart(folder: Path, targets: list[str], decoders: list[str]) -> None:
    """The same in a process of its own."""
    words = [f"--target={name}" for name in targets] + [f"--decoder={name}" for name in decoders]
    subprocess.run([sys.executable, __file__, f"--only={folder}", *words], check=True)


def judged(run: Path, baselines: list[Path]) -> dict[str, Any]:
    """What the gate says of a run: its exit code, and the checks that regressed."""
    found = check_run(run, baselines[0], more=baselines[1:])
    return {
        "run": run.name,
        "baselines": [folder.name for folder in baselines],
        "exit_code": found.exit_code,
        "verdict": found.sentence,
        "regressed": [f"{check.rule}: {check.where}: {check.why}" for check in found.of("regressed")],
        "speedups_judged": len([c for c in found.checks if c.rule == "speed-up" and c.verdict != "not judged"]),
        "notes": found.notes,
    }


def main(
    runs: Annotated[int, typer.Option(min=4, help="Unchanged runs.")] = 11,
    target: Annotated[list[str] | None, typer.Option(help="Targets; the demo grid's by default.")] = None,
    decoder: Annotated[list[str] | None, typer.Option(help="Decoders; the demo grid's by default.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the runs go; a new temporary folder by default.")] = None,
    out: Annotated[Path, typer.Option(help="Write the verdicts as JSON.")] = Path("results/benchmarks/gate.json"),
    only: Annotated[Path | None, typer.Option(help="Make this one run and judge nothing.")] = None,
) -> None:
    """Run, plant, check; print and write every verdict."""
    if only:
        run_here(only, target or [], decoder or [])
        return
    place = folder or Path(mkdtemp())
    unchanged = [place / f"run-{number}" for number in range(1, runs + 1)]
    for run in (*unchanged, *(place / name for name in PLANTED)):
        if not (run / MANIFEST).exists() or read_manifest(run)["ended"] is None:
            run_apart(run, target or [], decoder or [])
            typer.echo(f"made {run}")
    circle = [*unchanged, *unchanged[:BASELINES]]
    rows = [judged(run, circle[i + 1 : i + 1 + BASELINES]) for i, run in enumerate(unchanged)]
    rows += [judged(place / name, unchanged[:BASELINES]) for name in PLANTED]
    for row in rows:
        typer.echo(f"{row['verdict']} {row['regressed'][:3]}")
    passed = sum(row["exit_code"] == 0 for row in rows[:runs])
    typer.echo(f"unchanged: {passed} of {runs} passed; planted: {[row['exit_code'] for row in rows[runs:]]}")
    facts = {"what": "verdicts of `specbench-s2d check`; see benchmarks/gate.py", "environment": environment("cpu")}
    out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
