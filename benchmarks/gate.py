"""Does the gate hold its word? Unchanged runs must pass, planted regressions must not.

    python benchmarks/gate.py RUN… [--folder DIR] [--pairs 20] [--out FILE]

RUN: unchanged runs of one code, each of several launches (`specbench-s2d run demo/gate`, as `make gate` makes them).
A run and three baselines are drawn from them at random, again and again, and judged: as they are (it must hold), and
with the decode times of every decoder but AR made longer in the run's records, by 5 to 30 % (how often that is found is
the power of each: a shift of all changes no spread). Then three runs with something planted in the code, made in
--folder, held to the first RUN: every draft pass made 30 % longer by waiting; a verifier that accepts one token less
than it should (outputs stay right, acceptance falls); one that accepts one more (outputs change).
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from time import perf_counter
from typing import Annotated, Any

import typer
from figures import measured, write

from specbench_s2d.analysis.gate.judge import Side, check_run, judge
from specbench_s2d.analysis.gate.verdict import Tolerances
from specbench_s2d.analysis.report.write import read_run
from specbench_s2d.bench import session
from specbench_s2d.bench.plan import make_plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.config import make_spec
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.load import hide_progress_bars, load_model
from specbench_s2d.runs.folder import MANIFEST, read_manifest
from specbench_s2d.runs.record import BASELINE

SLOWER = 0.3
SLOWER_BY = (0.05, 0.10, 0.15, 0.20, 0.30)
LAUNCHES = 3
BASELINES = 3
Judge = Callable[..., Verdict]


@contextlib.contextmanager
def slow_drafts() -> Iterator[None]:
    """Every pass of a draft takes 30 % longer."""
    load = load_model

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


def run_here(folder: Path, launch: int) -> None:
    """One launch of the gate's grid in this process, with whatever its folder's name says planted."""
    hide_progress_bars()
    with PLANTED[folder.name]():
        plan = make_plan(make_spec(Path("demo/gate"), {"device": "cpu"}))
        execute(replace(plan, launch=launch), folder)


def run_apart(folder: Path) -> None:
    """All launches, each in a process of its own."""
    for launch in range(LAUNCHES):
        subprocess.run([sys.executable, __file__, f"--only={folder}", f"--launch={launch}"], check=True)


def made_slower(side: Side, share: float) -> Side:
    """The run with the decode times of every decoder but AR made longer."""
    name, records, manifest = side
    changed = [
        r.model_copy(update={"decode_s": r.decode_s / (1 - share)}) if r.label != BASELINE and r.decode_s else r
        for r in records
    ]
    return name, changed, manifest


def found_by_pairs(sides: Sequence[Side], pairs: int) -> dict[str, Any]:
    """False alarms of unchanged pairs, and of each target and decoder how often a slow-down is found."""
    rng, tolerances = random.Random(0), Tolerances()
    untimed = 0
    alarms: list[list[str]] = []
    said: dict[str, list[float]] = defaultdict(list)
    power: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(pairs):
        run, base, *more = rng.sample(list(sides), 1 + BASELINES)
        unchanged = judge(run, base, tolerances, "auto", more)
        alarms.append([f"{c.rule}: {c.where}: {c.why}" for c in unchanged.of("regressed")])
        for check in unchanged.speedups:
            untimed += check.verdict == "not judged"
            if check.detectable is not None:
                said[check.where].append(check.detectable)
        for share in SLOWER_BY:
            for check in judge(made_slower(run, share), base, tolerances, "auto", more).speedups:
                if check.verdict != "not judged":
                    power[check.where][f"{round(100 * share)} %"].append(check.verdict == "regressed")
    return {
        "pairs": pairs,
        "runs": len(sides),
        "false_alarms": sum(map(bool, alarms)),
        "speedups_not_judged": untimed,
        "alarms": [line for lines in alarms for line in lines],
        "power": {where: {by: sum(hits) / len(hits) for by, hits in of.items()} for where, of in power.items()},
        "said_detectable_percent": {where: round(100 * median(shares), 1) for where, shares in said.items()},
    }


def judged(run: Path, baseline: Path) -> dict[str, Any]:
    """What the gate says of a run: its exit code, and the checks that regressed."""
    found = check_run(run, baseline)
    return {
        "run": run.name,
        "baseline": baseline.name,
        "exit_code": found.exit_code,
        "verdict": found.sentence,
        "regressed": [f"{check.rule}: {check.where}: {check.why}" for check in found.of("regressed")],
    }


def main(
    runs: Annotated[list[Path] | None, typer.Argument(help="Unchanged runs of several launches.")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs drawn from their launches.")] = 20,
    planted: Annotated[bool, typer.Option(help="Make the planted runs, a quarter of an hour.")] = True,
    folder: Annotated[Path | None, typer.Option(help="Where planted runs go; a temporary folder by default.")] = None,
    out: Annotated[Path, typer.Option(help="Write the verdicts as JSON.")] = Path("results/benchmarks/gate.json"),
    only: Annotated[Path | None, typer.Option(help="Make one launch of this run and judge nothing.")] = None,
    launch: Annotated[int, typer.Option(help="Which, from 0.")] = 0,
) -> None:
    """Judge, run, plant; print and write every verdict."""
    if only:
        run_here(only, launch)
        return
    given, place = runs or [], folder or Path(mkdtemp())
    sides: list[Side] = [(run.name, read_run(run), read_manifest(run)) for run in given]
    unchanged = found_by_pairs(sides, pairs)
    typer.echo(f"{unchanged['false_alarms']} of {pairs} unchanged pairs regressed: {unchanged['alarms']}")
    for where, of in unchanged["power"].items():
        said = unchanged["said_detectable_percent"][where]
        typer.echo(f"{where}: " + ", ".join(f"{by}: {share:.2f}" for by, share in of.items()) + f"; said {said} %")
    rows = []
    for name in PLANTED if planted else ():
        if not (place / name / MANIFEST).exists() or read_manifest(place / name)["ended"] is None:
            run_apart(place / name)
        rows.append(judged(place / name, given[0]))
        typer.echo(f"{name}: {rows[-1]['verdict']} {rows[-1]['regressed'][:3]}")
    facts = measured("verdicts of `specbench-s2d check`; see benchmarks/gate.py")
    write(out, {**facts, "unchanged": unchanged, "planted": rows})


if __name__ == "__main__":
    typer.run(main)
