"""The gate: a run against a baseline, rule by rule.

In float32 greedy outputs move between machines only where two logits tie, and only that is allowed for. Times are
compared on one machine alone, while it was at rest, as ratios to AR, by their spread between launches and a margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from specbench_s2d.analysis.gate import cells, comparability, energy, pooled, timing
from specbench_s2d.analysis.gate.verdict import Check, Judgement, Tolerances
from specbench_s2d.analysis.metrics.cost_model import COST_RATIO
from specbench_s2d.analysis.metrics.intervals import Statistic
from specbench_s2d.analysis.metrics.pairs import Pair, latest
from specbench_s2d.analysis.metrics.speed import SPEEDUP
from specbench_s2d.analysis.report.write import read_runs
from specbench_s2d.errors import RecordSchemaError, RunFolderError
from specbench_s2d.runs.columns import Records, together
from specbench_s2d.runs.conditions import is_transient
from specbench_s2d.runs.folder import MANIFEST, PACKED, RECORDS, read_manifest
from specbench_s2d.runs.identity import identity, is_greedy_run
from specbench_s2d.runs.record import BASELINE, Record

Speed = Literal["auto", "judge", "skip"]
_ONE_LAUNCH = (
    "one launch of this run and one of the baseline say nothing of how far launches differ; give several "
    "(run --launches 3), or more baselines"
)


def check_run(
    run: Path,
    baseline: Path,
    tolerances: Tolerances | None = None,
    speed: Speed = "auto",
    more: Sequence[Path] = (),
) -> Judgement:
    """Judge a run's folder against a baseline's (or a file in it); raises `RunFolderError` for what is no run.

    `more`: further runs of the baseline's code, which say how far times differ from run to run.
    """
    one, other, *further = (run_folder(path) for path in (run, baseline, *more))
    tolerances = tolerances or Tolerances()
    try:
        folders = [one, other, *further]
        ours, theirs, *others = (
            (folder.name, records, read_manifest(folder))
            for folder, records in zip(folders, read_runs(folders), strict=True)
        )
    except RecordSchemaError as error:
        return Judgement(one.name, other.name, [Check("schema", "incomparable", why=str(error))])
    return judge(ours, theirs, tolerances, speed, others)


def run_folder(path: Path) -> Path:
    """A run's folder, given itself or as its manifest.json or records.jsonl."""
    if path.name in (MANIFEST, RECORDS, *PACKED):
        return path.parent
    if path.is_file():
        raise RunFolderError(f"{path}: not a run; give a run's folder, or its {MANIFEST} or {RECORDS}.")
    return path


Side = tuple[str, Iterable[Record], Mapping[str, Any]]
"""A run: its name, its records, its manifest."""


def judge(run: Side, baseline: Side, tolerances: Tolerances, speed: Speed, others: Sequence[Side] = ()) -> Judgement:
    """Every check of one run against another; only whether they can be compared, where they cannot.

    `others`: more baselines, for times alone.
    """
    (name, _, manifest), other = run, baseline[0]
    ours, *of_bases = together(*(latest(records) for _, records, _ in (run, baseline, *others)))
    bases = [(records, facts) for records, (_, _, facts) in zip(of_bases, (baseline, *others), strict=True)]
    base, theirs = bases[0]
    found = [check for more, facts in bases for check in comparability.comparability(manifest, facts, ours, more)]
    if any(check.verdict == "incomparable" for check in found):
        return Judgement(name, other, found, _notes(manifest, theirs, ours, base))
    elsewhere = comparability.other_machine(manifest, theirs)
    clock = _Clock(ours, manifest, bases, tolerances, speed)
    free = comparability.measured_at_run_time(manifest, theirs)
    settings = identity(theirs)["settings"]
    rows = cells.rows(ours, base, _repeats(manifest, theirs, ours, base), _launches(manifest))
    by_name = {(row.target, row.label): row for row in rows}
    for row in rows:
        source = by_name.get((row.target, BASELINE), row) if settings.get("replay_turns") == BASELINE else row
        seen = [*cells.same_work(row, source)]
        judged = [*_outputs(row, tolerances, is_greedy_run(settings))]
        judged += _steps(row, tolerances, elsewhere is None, (row.target, row.label) in free)
        judged += clock.checks(row)
        found += [*seen, *judged, *energy.doubts(row), *cells.anything_compared(row, judged)]
    if not len(base.finished):
        found.append(Check("evidence", "incomplete", why="the baseline finished no cell"))
    return Judgement(name, other, found, _notes(manifest, theirs, ours, base, clock.untimed or ""))


def _repeats(manifest: Mapping[str, Any], theirs: Mapping[str, Any], ours: Records, base: Records) -> int:
    """How many repeats both runs were to make, which one that was stopped may lack; of imported runs, what is there."""
    sides = ((manifest, ours), (theirs, base))
    return min(identity(m)["repeats"] or 1 + int(r.numbers("repeat").max()) for m, r in sides)


def _launches(manifest: Mapping[str, Any]) -> int:
    """How many launches a run was to make."""
    return int((manifest.get("spec") or {}).get("launches", 1))


def _outputs(row: cells.Row, tolerances: Tolerances, greedy: bool) -> Iterator[Check]:
    """What a row put out, and how good that is."""
    yield cells.outputs(row, tolerances, greedy)
    yield pooled.perplexity(row, tolerances)
    yield from pooled.quality(row, tolerances)


def _steps(row: cells.Row, tolerances: Tolerances, same_machine: bool, free: bool) -> Iterator[Check]:
    """What a row accepted; `free`: its steps depend on clocks."""
    if free:
        why = "it decides by measured times: its steps differ from run to run"
        yield Check("acceptance", "not judged", row.target, row.label, why=why)
        return
    exactly = cells.acceptance(row, same_machine)
    yield from [exactly] if exactly else []
    yield from pooled.accepted(row, tolerances)


class _Clock:
    """Judges times, against the launches of every baseline that can say something of them."""

    def __init__(
        self,
        ours: Records,
        manifest: Mapping[str, Any],
        bases: Sequence[tuple[Records, Mapping[str, Any]]],
        tolerances: Tolerances,
        speed: Speed,
    ) -> None:
        self._tolerances, self._forced = tolerances, speed == "judge"
        doubts = [
            comparability.other_machine(manifest, m) or comparability.unstable_reason(manifest, m) for _, m in bases
        ]
        kept = [base for base, doubt in zip(bases, doubts, strict=True) if speed == "judge" or not doubt]
        self.untimed = "--speed skip" if speed == "skip" else None if kept else doubts[0]
        repeats = min([_repeats(manifest, m, ours, base) for base, m in kept], default=1)
        self._ours = timing.launches_of(ours, repeats)
        self._base = [launch for base, _ in kept for launch in timing.launches_of(base, repeats)]
        self._free = comparability.measured_at_run_time(manifest, *(m for _, m in bases))
        self._samples: dict[tuple[Statistic[Pair], tuple[str, str]], timing.Sample | str] = {}
        self._rows = [name for name in _names(ours) if name[1] != BASELINE]

    def checks(self, row: cells.Row) -> Iterator[Check]:
        """How fast a row was compared with AR, and what its draft passes cost."""
        if row.label == BASELINE:
            return
        if self.untimed:
            yield Check("speed-up", "not judged", row.target, row.label, why=self.untimed)
            return
        if off := self._pace(row.target):
            yield Check("speed-up", "not judged", row.target, row.label, why=off)
            return
        free = (row.target, row.label) in self._free
        margin = max(self._tolerances.speed, self._tolerances.free_speed) if free else self._tolerances.speed
        yield self._check(row, "speed-up", SPEEDUP, margin, -1)
        if row.drafts and not free:  # what draft passes cost is a free decoder's own choice
            yield self._check(row, "cost ratio", COST_RATIO, self._tolerances.cost, 1)

    def _check(self, row: cells.Row, rule: str, statistic: Statistic[Pair], margin: float, worse: int) -> Check:
        name = (row.target, row.label)
        found = self._sample(statistic, name)
        if isinstance(found, str):
            return Check(rule, "not judged", *name, why=found)
        others = [other for other in self._rows if other[0] == row.target and other not in self._free]
        known = [self._sample(statistic, other) for other in ([name] if name in self._free else others)]
        spread = timing.Spread.pooled([one for one in known if isinstance(one, timing.Sample)])
        if spread is None:
            return Check(rule, "not judged", *name, why=_ONE_LAUNCH)
        spread = spread.at_least(timing.Spread.pooled([found]))
        return timing.judge(rule, name, found, spread, margin, worse, tests=2 * len(self._rows))

    def _pace(self, target: str) -> str | None:
        """Why a target's times say nothing of its decoders: AR itself runs at another rate than the baselines' did."""
        change = None if self._forced else timing.pace(target, self._ours, self._base)
        if change is None or abs(change) <= math.log(1 + timing.PACE):
            return None
        return (
            f"{BASELINE} on {target} decodes at {math.exp(change):.2f} of the baseline's rate: the machine runs at "
            f"another pace, or {BASELINE} itself changed; measure both anew"
        )

    def _sample(self, statistic: Statistic[Pair], row: tuple[str, str]) -> timing.Sample | str:
        if (statistic, row) not in self._samples:
            self._samples[statistic, row] = timing.sample(statistic, row, self._ours, self._base)
        return self._samples[statistic, row]


def _notes(
    manifest: Mapping[str, Any], theirs: Mapping[str, Any], ours: Records, base: Records, said: str = ""
) -> list[str]:
    """What a reader should know besides the checks: what came and went on the machines (and what an old manifest does
    not say that of), unless that is `said` already; rows that nobody asked for."""
    known = set(_names(base))
    extra: dict[str, list[str]] = {}
    for target, label in _names(ours):
        if (target, label) not in known:
            extra.setdefault(target, []).append(label)
    more = "; ".join(f"{target}: {', '.join(sorted(labels))}" for target, labels in extra.items())
    notes = []
    for whose, facts in zip(comparability.NOT_AT_REST, (manifest, theirs), strict=True):
        transient = (c for c in facts.get("conditions", []) if is_transient(c) is not False)
        if (found := comparability.disturbances(transient)) and not said.startswith(whose):
            notes.append(f"{whose[0].upper()}{whose[1:]}: {'; '.join(found)}.")
    return [*notes, *([f"Not in the baseline, not judged: {more}."] if more else [])]


def _names(records: Records) -> list[tuple[str, str]]:
    """Targets and labels."""
    return [(mine.value("target"), mine.value("label")) for mine in records.groups("target", "label")]
