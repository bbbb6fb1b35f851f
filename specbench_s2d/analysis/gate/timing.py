"""Times of a row compared with the baselines': its speed-up over AR, and the cost of a draft pass over an AR step's.

Runs of one machine differ among themselves, and a gate makes many comparisons. So a ratio counts only where it lies
beyond its margin and its interval, widened for the number of comparisons (Bonferroni), excludes no change; and where
there are several baselines, only where it does so against each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from specbench_s2d.analysis.gate.cells import Row
from specbench_s2d.analysis.gate.pooled import rounded, sides
from specbench_s2d.analysis.gate.verdict import Check, Tolerances, Verdict
from specbench_s2d.analysis.metrics.bootstrap import LEVEL, Statistic
from specbench_s2d.analysis.metrics.cost_model import COST_RATIO, cost_ratio
from specbench_s2d.analysis.metrics.pairs import Pair, pair
from specbench_s2d.analysis.metrics.speed import SPEEDUP, speedup
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.runs.record import BASELINE, Record

Pairs = list[Pair]


@dataclass(frozen=True)
class Timed:
    """A row and one baseline: the cells that both runs finished, each paired with its own run's AR."""

    ours: Pairs
    base: Pairs

    @classmethod
    def of(cls, row: Row, ours: Sequence[Record], base: Sequence[Record]) -> Timed:
        mine, theirs = sides(row.common)
        ar, other_ar = ([r for r in side if (r.target, r.label) == (row.target, BASELINE)] for side in (ours, base))
        return Timed(pair(mine, ar), pair(theirs, other_ar))


def family_level(comparisons: int) -> float:
    """The level of each interval at which all of so many together hold at 95 %."""
    return 1 - (1 - LEVEL) / max(1, comparisons)


def times(row: Row, timed: Sequence[Timed], tolerances: Tolerances, level: float, free: bool) -> Iterator[Check]:
    """The checks of one row; `timed`: the row with each baseline. `free`: it decides by measured times, so that what
    its draft passes cost is its own choice."""
    if not timed:
        yield Check("speed-up", "not judged", row.target, row.label, why="no baseline of this machine at rest has it")
        return
    margin = max(tolerances.speed, tolerances.free_speed) if free else tolerances.speed
    yield _least_severe([_ratio(row, "speed-up", speedup, SPEEDUP, each, margin, level, -1) for each in timed])
    if row.drafts and not free:
        costs = [_ratio(row, "cost ratio", cost_ratio, COST_RATIO, each, tolerances.cost, level, 1) for each in timed]
        yield _least_severe(costs)


def _least_severe(checks: Sequence[Check]) -> Check:
    """Of the baselines that can say something: regressed or improved only where each of them says so."""
    telling = [check for check in checks if check.verdict != "not judged"]
    calm = [check for check in telling if check.verdict == "holds"]
    if calm or len({check.verdict for check in telling}) < 2:
        return [*calm, *telling, *checks][0]
    return Check(checks[0].rule, "holds", checks[0].target, checks[0].label, why="the baselines disagree")


def _ratio(
    row: Row, rule: str, metric: Callable[[Sequence[Pairs]], Measure], statistic: Statistic[Pair], timed: Timed,
    margin: float, level: float, worse: int,
) -> Check:  # fmt: skip
    """Our value over the baseline's, with its interval."""
    values = metric([timed.ours]), metric([timed.base])
    ours, base = (measure.value for measure in values)
    if ours is None or base is None or base <= 0:
        missing = Measure(None, values[0].note or values[1].note or f"no ratio: the other {rule} is 0")
        return _judged(row, rule, values, missing, Interval(None, None), margin, worse)
    interval = statistic.ratio_interval([timed.ours], [timed.base], level=level)
    return _judged(row, rule, values, Measure(ours / base), interval, margin, worse)


def _judged(
    row: Row, rule: str, values: Sequence[Measure], ratio: Measure, interval: Interval, margin: float, worse: int
) -> Check:
    """A ratio of two runs: where it lies further than `margin` from 1 and its interval excludes 1 on that side, it
    regressed (on the `worse` side, -1 or 1) or improved."""
    here, there = map(rounded, values)
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
