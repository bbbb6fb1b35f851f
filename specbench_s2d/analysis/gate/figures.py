"""Figures of a row beside the baseline's: accepted length, likelihood, task quality, speed, cost of a draft pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specbench_s2d.analysis import cost_model, grades, stats
from specbench_s2d.analysis.definitions import Interval, Measure
from specbench_s2d.analysis.gate.cells import Both, Row
from specbench_s2d.analysis.gate.verdict import Check, Tolerances, Verdict
from specbench_s2d.bench.records import BASELINE, Record

_SAME_TEXT_QUALITY = 1e-9


def accepted_length(row: Row, tolerances: Tolerances) -> Check | None:
    """Pooled MAT over the common cells has not fallen by more than the tolerance. None for what drafts nothing."""
    if row.drafts_nothing:
        return None
    ours, base = (stats.mat(side) for side in _sides(row.common))
    return _relative(row, "MAT", ours, base, tolerances.mat, worse=-1)


def perplexity(row: Row, tolerances: Tolerances) -> Check:
    """Of equal ids the same; where ids may differ, not above the baseline's by more than the tolerance."""
    same = all(both.same_ids for both in row.common)
    ours, base = (stats.perplexity(side) for side in _sides(row.common))
    if same:
        return _relative(row, "perplexity", ours, base, tolerances.perplexity, worse=0)
    return _relative(row, "perplexity", ours, base, tolerances.moved_perplexity, worse=1)


def quality(row: Row, tolerances: Tolerances) -> Iterator[Check]:
    """Each metric of task quality: of equal texts the same, else within the tolerance of perplexity."""
    mine, theirs = _sides(row.common)
    same = all(both.same_ids for both in row.common)
    for metric in grades.metrics_of(theirs):
        ours, base = (grades.quality(side, metric) for side in (mine, theirs))
        allowed = _SAME_TEXT_QUALITY if same else tolerances.moved_perplexity
        yield _relative(row, grades.title(metric), ours, base, allowed, worse=0 if same else -1)


def speed(row: Row, ours: Sequence[Record], base: Sequence[Record], margin: float) -> Check:
    """The speed-up over AR, beside the baseline's over its AR, paired by question."""
    mine, theirs = _beside_ar(row, row.ours, ours), _beside_ar(row, row.base, base)
    ratio, interval = stats.speedup_ratio([mine], [theirs]), Interval(None, None)
    if ratio.value is not None:
        interval = stats.speedup_ratio_interval([mine], [theirs])
    return _judged(row, "speed-up", (stats.speedup(mine), stats.speedup(theirs)), ratio, interval, -margin)


def cost(row: Row, ours: Sequence[Record], base: Sequence[Record], margin: float) -> Check | None:
    """A draft pass over an AR step, beside the baseline's. None for what drafts nothing."""
    mine, theirs = _beside_ar(row, row.ours, ours), _beside_ar(row, row.base, base)
    values = cost_model.cost_ratio([mine]), cost_model.cost_ratio([theirs])
    if values[1].value is None and theirs:
        return None
    return _judged(row, "cost ratio", values, *cost_model.cost_ratio_ratio([mine], [theirs]), margin)


def _beside_ar(row: Row, mine: Sequence[Record], everything: Sequence[Record]) -> list[stats.Pair]:
    return stats.pair(mine, [r for r in everything if (r.target, r.label) == (row.target, BASELINE)])


def _sides(common: Sequence[Both]) -> tuple[list[Record], list[Record]]:
    return [both.ours for both in common], [both.base for both in common]


def _judged(row: Row, rule: str, values: Sequence[Measure], ratio: Measure, interval: Interval, margin: float) -> Check:
    """A ratio of two runs: regressed where it lies beyond 1 + `margin` and its interval excludes 1 on that side."""
    here, there = map(_text, values)
    if ratio.value is None or interval.low is None or interval.high is None:
        why = ratio.note or interval.note or "no interval"
        return Check(rule, "not judged", row.target, row.label, here, there, why)
    beyond, above, below = ratio.value - 1, interval.low > 1, interval.high < 1
    worse, better = (above, below) if margin > 0 else (below, above)
    verdict: Verdict = "holds"
    if abs(beyond) > abs(margin) and (worse or better):
        verdict = "regressed" if worse else "improved"
    why = f"{ratio.value:.3f} [{interval.low:.3f}–{interval.high:.3f}] of the baseline's; allowed {1 + margin:.2f}"
    return Check(rule, verdict, row.target, row.label, here, there, why)


def _relative(row: Row, rule: str, ours: Measure, base: Measure, tolerance: float, worse: int) -> Check:
    """Two figures within a relative tolerance; beyond it, a change to the `worse` side (-1, 1, or 0 for both) is a
    regression, one to the other an improvement."""
    if ours.value is None or base.value is None:
        why = ours.note or base.note or "no figure"
        return Check(rule, "not judged", row.target, row.label, _text(ours), _text(base), why)
    change = ours.value - base.value
    share = abs(change) / abs(base.value) if base.value else float(bool(change))
    verdict: Verdict = "holds"
    if share > tolerance:
        verdict = "improved" if worse and change * worse < 0 else "regressed"
    why = f"off by {100 * share:.3g} %; allowed {100 * tolerance:.3g} %" if verdict != "holds" else ""
    return Check(rule, verdict, row.target, row.label, _text(ours), _text(base), why)


def _text(measure: Measure) -> str:
    return "–" if measure.value is None else f"{measure.value:.4g}"
