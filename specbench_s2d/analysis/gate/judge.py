"""The gate: a run against a baseline, rule by rule.

In float32 greedy outputs move between machines only where two logits tie, and only that is allowed for. Times are
compared on one machine alone, as ratios to AR, with paired intervals and a margin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from specbench_s2d.analysis import tidy
from specbench_s2d.analysis.gate import cells, comparable, figures
from specbench_s2d.analysis.gate.verdict import Check, Judgement, Tolerances
from specbench_s2d.analysis.report import read_run
from specbench_s2d.bench.records import BASELINE, Record
from specbench_s2d.bench.store import MANIFEST, RECORDS, read_manifest
from specbench_s2d.errors import RunFolderError

Speed = Literal["auto", "judge", "skip"]


def check_run(run: Path, baseline: Path, tolerances: Tolerances | None = None, speed: Speed = "auto") -> Judgement:
    """Judge a run's folder against a baseline's (or a file in it); raises `RunFolderError` for what is no run."""
    one, other = (run_folder(path) for path in (run, baseline))
    return judge(
        (one.name, read_run(one), read_manifest(one)),
        (other.name, read_run(other), read_manifest(other)),
        tolerances or Tolerances(),
        speed,
    )


def run_folder(path: Path) -> Path:
    """A run's folder, given itself or as its manifest.json or records.jsonl."""
    if path.name in (MANIFEST, RECORDS):
        return path.parent
    if path.is_file():
        raise RunFolderError(f"{path}: not a run; give a run's folder, or its {MANIFEST} or {RECORDS}.")
    return path


Side = tuple[str, Sequence[Record], Mapping[str, Any]]
"""A run: its name, its records, its manifest."""


def judge(run: Side, baseline: Side, tolerances: Tolerances, speed: Speed) -> Judgement:
    """Every check of one run against another; only whether they can be compared, where they cannot."""
    (name, ours, manifest), (other, base, theirs) = run, baseline
    ours, base = tidy.latest(ours), tidy.latest(base)
    found = comparable.comparability(manifest, theirs, ours, base)
    if any(check.verdict == "incomparable" for check in found):
        return Judgement(name, other, found, _notes(manifest, ours, base))
    elsewhere = comparable.same_machine(manifest, theirs)
    untimed = _why_untimed(speed, elsewhere)
    free = comparable.measured_at_run_time(manifest, theirs)
    temperature = float(theirs["identity"]["settings"]["temperature"])
    for row in cells.rows(ours, base):
        found += _row(row, tolerances, temperature, elsewhere is None, (row.target, row.label) in free)
        found += _times(row, ours, base, tolerances, untimed)
    return Judgement(name, other, found, _notes(manifest, ours, base))


def _row(row: cells.Row, tolerances: Tolerances, temperature: float, same_machine: bool, free: bool) -> Iterator[Check]:
    """What a row put out and accepted; `free`: its steps depend on clocks, its ids do not."""
    yield cells.completeness(row)
    yield cells.audit(row)
    yield cells.outputs(row, tolerances, temperature)
    drafted = [] if free else [cells.acceptance(row, same_machine), figures.accepted_length(row, tolerances)]
    if free:
        why = "it decides by measured times: its steps differ from run to run"
        yield Check("acceptance", "not judged", row.target, row.label, why=why)
    yield from (check for check in drafted if check)
    yield figures.perplexity(row, tolerances)
    yield from figures.quality(row, tolerances)


def _times(
    row: cells.Row, ours: Sequence[Record], base: Sequence[Record], tolerances: Tolerances, untimed: str | None
) -> Iterator[Check]:
    """How fast a row was beside AR, and what its draft passes cost."""
    if row.label == BASELINE:
        return
    if untimed:
        yield Check("speed-up", "not judged", row.target, row.label, why=untimed)
        return
    yield figures.speed(row, ours, base, tolerances.speed)
    cost = figures.cost(row, ours, base, tolerances.cost)
    if cost:
        yield cost


def _why_untimed(speed: Speed, elsewhere: str | None) -> str | None:
    """Why times are not judged; None where they are."""
    if speed == "skip":
        return "--speed skip"
    return elsewhere if speed == "auto" else None


def _notes(manifest: Mapping[str, Any], ours: Sequence[Record], base: Sequence[Record]) -> list[str]:
    """What a reader should know beside the checks: a restless machine, rows that nobody asked for."""
    known = {(r.target, r.label) for r in base}
    extra = dict.fromkeys(f"{r.target}, {r.label}" for r in ours if (r.target, r.label) not in known)
    conditions = dict.fromkeys(f"{c['about']}: {c['what']}" for c in manifest.get("conditions", []))
    return [
        *(f"The machine was not at rest: {condition}." for condition in conditions),
        *([f"Not in the baseline, not judged: {'; '.join(extra)}."] if extra else []),
    ]
