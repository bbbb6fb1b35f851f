"""Times of a row beside the baselines': its speed-up over AR, and what a draft pass costs beside an AR step.

Runs of one machine differ among themselves, and a gate makes many comparisons. So a ratio counts only where it lies
beyond its margin and its interval, widened for the number of comparisons (Bonferroni), excludes no change; and where
there are several baselines, only where it does so against each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specbench_s2d.analysis.gate.cells import Row
from specbench_s2d.analysis.gate.pooled import figure_text, sides
from specbench_s2d.analysis.gate.verdict import Check, Tolerances, Verdict
from specbench_s2d.analysis.metrics import cost_model, stats
from specbench_s2d.analysis.metrics.bootstrap import LEVEL
from specbench_s2d.analysis.metrics.columns import Interval, Measure
from specbench_s2d.runs.record import BASELINE, Record

Pairs = list[stats.Pair]


@dataclass(frozen=True)
class Timed:
    """A row beside one baseline: the cells that both runs finished, each beside its own run's AR."""

    ours: Pairs
    base: Pairs

    @classmethod
    def of(cls, row: Row, ours: Sequence[Record], base: Sequence[Record]) -> Timed:
        mine, theirs = sides(row.common)
        ar, other_ar = ([r for r in side if (r.target, r.label) == (row.target, BASELINE)] for side in (ours, base))
        return Timed(stats.pair(mine, ar), stats.pair(theirs, other_ar))


def family_level(comparisons: int) -> float:
    """The level of each interval at which all of so many together hold at 95 %."""
    return 1 - (1 - LEVEL) / max(1, comparisons)


def times(row: Row, beside: Sequence[Timed], tolerances: Tolerances, level: float, free: bool) -> Iterator[Check]:
    """The checks of one row; `beside`: the row with each baseline. `free`: it decides by measured times, so that what
    its draft passes cost is its own choice."""
    if not beside:
        yield Check("speed-up", "not judged", row.target, row.label, why="no baseline of this machine at rest has it")
        return
    margin = max(tolerances.speed, tolerances.free_speed) if free else tolerances.speed
    yield _mildest([_speed(row, timed, margin, level) for timed in beside])
    if row.drafts and not free:
        yield _mildest([_cost(row, timed, tolerances.cost, level) for timed in beside])


def _mildest(checks: Sequence[Check]) -> Check:
    """Of the baselines that can say something: regressed or improved only where each of them says so."""
    telling = [check for check in checks if check.verdict != "not judged"]
    calm = [check for check in telling if check.verdict == "holds"]
    if calm or len({check.verdict for check in telling}) < 2:
        return [*calm, *telling, *checks][0]
    return Check(checks[0].rule, "holds", checks[0].target, checks[0].label, why="the baselines disagree")


def _speed(row: Row, timed: Timed, margin: float, level: float) -> Check:
    values = stats.speedup(timed.ours), stats.speedup(timed.base)
    ratio, interval = stats.speedup_ratio([timed.ours], [timed.base]), Interval(None, None)
    if ratio.value is not None:
        interval = stats.speedup_ratio_interval([timed.ours], [timed.base], level=level)
    return _judged(row, "speed-up", values, ratio, interval, margin, worse=-1)


def _cost(row: Row, timed: Timed, margin: float, level: float) -> Check:
    values = cost_model.cost_ratio([timed.ours]), cost_model.cost_ratio([timed.base])
    missing = next((value.note for value in values if value.value is None), None)
    if missing:
        ratio, interval = Measure(None, missing), Interval(None, None)
    else:
        ratio, interval = cost_model.cost_ratio_ratio([timed.ours], [timed.base], level=level)
    return _judged(row, "cost ratio", values, ratio, interval, margin, worse=1)


def _judged(
    row: Row, rule: str, values: Sequence[Measure], ratio: Measure, interval: Interval, margin: float, worse: int
) -> Check:
    """A ratio of two runs: where it lies further than `margin` from 1 and its interval excludes 1 on that side, it
    regressed (on the `worse` side, -1 or 1) or improved."""
    here, there = map(figure_text, values)
    if ratio.value is None or interval.low is None or interval.high is None:
        why = ratio.note or interval.note or "no interval"
        return Check(rule, "not judged", row.target, row.label, here, there, why)
    beyond = ratio.value - 1
    excludes = interval.low > 1 if beyond > 0 else interval.high < 1
    verdict: Verdict = "holds"
    if abs(beyond) > margin and excludes:
        verdict = "regressed" if beyond * worse > 0 else "improved"
    allowed = 1 + worse * margin
    why = f"{ratio.value:.3f} [{interval.low:.3f}–{interval.high:.3f}] of the baseline's; allowed {allowed:.2f}"
    return Check(rule, verdict, row.target, row.label, here, there, why)
