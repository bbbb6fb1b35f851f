"""Task quality of a row: the mean over scored answers, or the library's own value of the answers as one corpus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from specbench_s2d.analysis.metrics import bootstrap
from specbench_s2d.analysis.metrics.bootstrap import Floats
from specbench_s2d.analysis.metrics.columns import Interval, Measure
from specbench_s2d.analysis.metrics.quotients import mean_quality
from specbench_s2d.analysis.metrics.stats import Pair, question_of
from specbench_s2d.measure.quality import METRICS, pooled
from specbench_s2d.runs.record import Record

_POOLED_RESAMPLES = 1_000  # each calls the library


def metrics_of(records: Iterable[Record]) -> list[str]:
    """The metrics that any record was scored by, in the order that `METRICS` lists them, unknown ones last."""
    found = {name for r in records for name in r.quality or {}}
    return [*(name for name in METRICS if name in found), *sorted(found - METRICS.keys())]


def title(metric: str) -> str:
    """A metric's column heading."""
    return METRICS[metric].title if metric in METRICS else metric


def is_pooled(metric: str) -> bool:
    """Whether a row's value is the corpus's, not the mean of its answers'."""
    return metric in METRICS and METRICS[metric].pool is not None


def quality(records: Iterable[Record], metric: str) -> Measure:
    """One metric over the finished records that were scored by it; None, with the records' reasons, for none."""
    finished = [r for r in records if r.status == "ok"]
    if is_pooled(metric):
        counts = _counts(finished, metric)
        return Measure(pooled(metric, [row for _, row in counts])) if counts else _nothing(finished)
    scores = [score for r in finished if (score := (r.quality or {}).get(metric)) is not None]
    return Measure(sum(scores) / len(scores)) if scores else _nothing(finished)


def quality_interval(groups: Sequence[Sequence[Record]], metric: str, resamples: int, seed: int = 0) -> Interval:
    """95 % percentile interval over questions of `quality`, or of the mean of several targets' own.

    Pooled metrics take 1,000 resamples at most.
    """
    if not is_pooled(metric):
        return mean_quality(metric).interval(groups, resamples, seed)
    sums = [bootstrap.question_sums(_counts(g, metric), lambda c: question_of(c[0]), lambda c: c[1]) for g in groups]
    resamples = min(resamples, _POOLED_RESAMPLES)
    return bootstrap.interval(sums, lambda sums_GCR: _corpus(metric, sums_GCR), resamples, seed=seed)


def difference(
    groups: Sequence[Sequence[Pair]], metric: str, resamples: int, seed: int = 0
) -> tuple[Measure, Interval]:
    """Ours minus theirs, with its 95 % interval, over the cells where both answers were scored; of several targets,
    of the means over them. None unless every target has such a cell.

    Pooled metrics take 1,000 resamples at most.
    """
    if not is_pooled(metric):
        return mean_quality(metric).compare(groups, "difference", resamples, seed)

    def statistic(sums_GCR: Floats) -> Floats:
        ours_GCR, theirs_GCR = np.split(sums_GCR, 2, axis=1)
        return _corpus(metric, ours_GCR) - _corpus(metric, theirs_GCR)

    rows = [[(p, both) for p in pairs if (both := _both_counts(p, metric))] for pairs in groups]
    if not rows or not all(rows):
        return Measure(None, "no cell that both have"), Interval(None, None, "no cell that both have")
    sums = [bootstrap.question_sums(group, lambda c: question_of(c[0].ours), lambda c: c[1]) for group in rows]
    value, interval = bootstrap.estimate(sums, statistic, min(resamples, _POOLED_RESAMPLES), seed)
    return Measure(value), interval


def _corpus(metric: str, sums_GCR: Floats) -> Floats:
    """Mean over groups of each group's corpus score, (R,); NaN where a group has no answer, whose counts are never
    all 0, for its reference's words count too."""
    values_GR = [
        [pooled(metric, [counts_C.astype(int).tolist()]) if counts_C.any() else math.nan for counts_C in sums_CR.T]
        for sums_CR in sums_GCR
    ]
    means_R: Floats = np.array(values_GR, dtype=np.float64).mean(axis=0)
    return means_R


def _both_counts(pair: Pair, metric: str) -> list[int]:
    """Our answer's counts and theirs, one after the other; empty where either was not scored."""
    ours, theirs = ((record.quality_counts or {}).get(metric) for record in (pair.ours, pair.baseline))
    return [*ours, *theirs] if ours and theirs else []


def _counts(records: Iterable[Record], metric: str) -> list[tuple[Record, list[int]]]:
    """The finished records that were scored by a pooled metric, with what it sums."""
    finished = ((r, r.quality_counts or {}) for r in records if r.status == "ok")
    return [(r, counts[metric]) for r, counts in finished if metric in counts]


def _nothing(finished: Sequence[Record]) -> Measure:
    reasons = sorted({r.reasons["quality"] for r in finished if "quality" in r.reasons})
    return Measure(None, "no answer was scored by it" + (f" ({', '.join(reasons)})" if reasons else ""))
