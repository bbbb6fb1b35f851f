"""Values of a row compared with the baseline's that hold on any machine: accepted length, likelihood, task quality."""

from __future__ import annotations

from collections.abc import Iterator

from specbench_s2d.analysis.gate.cells import Row, with_ids
from specbench_s2d.analysis.gate.verdict import Check, Tolerances, Verdict
from specbench_s2d.analysis.metrics import acceptance
from specbench_s2d.analysis.metrics import quality as metric_quality
from specbench_s2d.analysis.metrics.columns import quality_column
from specbench_s2d.analysis.metrics.values import Measure

_SAME_TEXT_QUALITY = 1e-9


def accepted(row: Row, tolerances: Tolerances) -> Iterator[Check]:
    """Pooled MAT and acceptance rate over the cells of equal ids have not fallen by more than the tolerance. Nothing
    for what drafts nothing."""
    if row.drafts:
        for rule, metric in (("MAT", acceptance.mat), ("acceptance rate", acceptance.acceptance_rate)):
            ours, base = (metric(side) for side in (row.alike.ours, row.alike.baseline))
            yield _relative(row, rule, ours, base, tolerances.mat, worse=-1)


def perplexity(row: Row, tolerances: Tolerances) -> Check:
    """Of equal ids the same; where neither run carries ids, not above the baseline's by more than the tolerance."""
    same = bool(with_ids(row.alike).all())
    ours, base = (metric_quality.perplexity(side) for side in (row.alike.ours, row.alike.baseline))
    if same:
        return _relative(row, "perplexity", ours, base, tolerances.perplexity, worse=0)
    return _relative(row, "perplexity", ours, base, tolerances.moved_perplexity, worse=1)


def quality(row: Row, tolerances: Tolerances) -> Iterator[Check]:
    """Each metric of task quality: of equal ids the same; without ids, within the tolerance of perplexity."""
    mine, theirs = (row.alike.ours, row.alike.baseline)
    same = bool(with_ids(row.alike).all())
    for metric in metric_quality.metrics_of(theirs):
        ours, base = (metric_quality.quality(side, metric) for side in (mine, theirs))
        here, there = (metric_quality.scored(side, metric) for side in (mine, theirs))
        if here != there:
            ours, base = (Measure(m.value, f"{n} of {len(mine)} scored") for m, n in ((ours, here), (base, there)))
        allowed = _SAME_TEXT_QUALITY if same else tolerances.moved_perplexity
        yield _relative(row, quality_column(metric).heading, ours, base, allowed, worse=0 if same else -1)


def _relative(row: Row, rule: str, ours: Measure, base: Measure, tolerance: float, worse: int) -> Check:
    """Two values within a relative tolerance; beyond it, a change to the `worse` side (-1, 1, or 0 for both) is a
    regression, one to the other an improvement. A value of the baseline that not all our cells carry is missing."""
    if ours.value is None or base.value is None or ours.note != base.note:  # a note: some cells carry nothing
        lost = base.value is not None and ours.note is not None
        why = ours.note or base.note or "no value"
        missing: Verdict = "incomplete" if lost else "not judged"
        return Check(rule, missing, row.target, row.label, rounded(ours), rounded(base), why)
    change = ours.value - base.value
    share = abs(change) / abs(base.value) if base.value else float(bool(change))
    verdict: Verdict = "holds"
    if not share <= tolerance:  # what is not a number is within nothing
        verdict = "improved" if worse and change * worse < 0 else "regressed"
    why = f"off by {100 * share:.3g} %; allowed {100 * tolerance:.3g} %" if verdict != "holds" else ""
    return Check(rule, verdict, row.target, row.label, rounded(ours), rounded(base), why)


def rounded(measure: Measure) -> str:
    """A value to four digits, or a dash."""
    return "–" if measure.value is None else f"{measure.value:.4g}"
