"""Figures that are quotients of sums over records: their intervals, and two decoders' beside each other.

Shape suffixes: G groups (one per target), C columns (a numerator and a denominator per side), R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from specbench_s2d.analysis.metrics import bootstrap
from specbench_s2d.analysis.metrics.bootstrap import RESAMPLES, Floats
from specbench_s2d.analysis.metrics.columns import Interval, Measure
from specbench_s2d.analysis.metrics.stats import Pair, question_of
from specbench_s2d.runs.record import Record

Part = Callable[[Record], tuple[float, float] | None]
How = Literal["ratio", "difference", "reduction_percent", "times_less"]
# What becomes of both sides' figures, (G, R) each: the mean over groups of their ratios, of their differences, of the
# percents by which ours lie below theirs, of how many times theirs are ours.
_HOW: dict[How, Callable[[Floats, Floats], Floats]] = {
    "ratio": lambda ours_GR, theirs_GR: (ours_GR / theirs_GR).mean(axis=0),
    "difference": lambda ours_GR, theirs_GR: (ours_GR - theirs_GR).mean(axis=0),
    "times_less": lambda ours_GR, theirs_GR: (theirs_GR / ours_GR).mean(axis=0),
    "reduction_percent": lambda ours_GR, theirs_GR: (100 * (1 - ours_GR / theirs_GR)).mean(axis=0),
}


@dataclass(frozen=True)
class Quotient:
    """`part` gives a record's numerator and denominator, None where it has none; `shape` makes the figure of the
    quotient of the sums."""

    part: Part
    shape: Callable[[Floats], Floats] = lambda quotients: quotients

    def interval(self, groups: Sequence[Iterable[Record]], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
        """95 % percentile interval over questions of the figure; of several groups, of the mean of their figures."""
        sums = [
            bootstrap.question_sums((r for r in records if self._has(r)), question_of, lambda r: self.part(r) or ())
            for records in groups
        ]
        return bootstrap.interval(sums, lambda sums_GCR: self._figures(sums_GCR).mean(axis=0), resamples, seed=seed)

    def compare(
        self,
        groups: Sequence[Sequence[Pair]],
        how: How,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> tuple[Measure, Interval]:
        """Ours beside theirs on the cells that both have, as `how` says; each resample draws questions once for both
        sides and all groups. None unless every group has such a cell."""

        def statistic(sums_GCR: Floats) -> Floats:
            return _HOW[how](self._figures(sums_GCR[:, :2]), self._figures(sums_GCR[:, 2:]))

        kept = [[p for p in pairs if self._has(p.ours) and self._has(p.baseline)] for pairs in groups]
        if not kept or not all(kept):
            return Measure(None, "no cell that both have"), Interval(None, None, "no cell that both have")
        sums = [bootstrap.question_sums(pairs, lambda p: question_of(p.ours), self._both) for pairs in kept]
        value, interval = bootstrap.estimate(sums, statistic, resamples, seed)
        measure = Measure(value) if np.isfinite(value) else Measure(None, "the other's figure is 0 or has no ground")
        return measure, interval

    def _figures(self, sums_GCR: Floats) -> Floats:
        return self.shape(sums_GCR[:, 0] / sums_GCR[:, 1])

    def _both(self, pair: Pair) -> tuple[float, ...]:
        return (*(self.part(pair.ours) or ()), *(self.part(pair.baseline) or ()))

    def _has(self, record: Record) -> bool:
        return record.status == "ok" and self.part(record) is not None


def _steps(record: Record) -> tuple[float, float] | None:
    emitted = record.emitted_per_step
    return None if emitted is None else (float(sum(emitted)), float(len(emitted)))


def _likelihood(record: Record) -> tuple[float, float] | None:
    if record.nll_sum is None or record.new_tokens is None:
        return None
    return record.nll_sum, float(record.new_tokens)


def _energy(record: Record) -> tuple[float, float] | None:
    if record.energy_j is None or record.new_tokens is None:
        return None
    return record.energy_j, float(record.new_tokens)


def _length(record: Record) -> tuple[float, float] | None:
    return None if record.new_tokens is None else (float(record.new_tokens), 1.0)


MAT = Quotient(_steps)
LENGTH = Quotient(_length)
ENERGY = Quotient(_energy)
"""Joules per new token. Blocks of a suite are metered, not questions: an interval over questions would say too much."""
PERPLEXITY = Quotient(_likelihood, np.exp)


def mean_quality(metric: str) -> Quotient:
    """The mean of one metric over the answers that were scored by it."""

    def part(record: Record) -> tuple[float, float] | None:
        value = (record.quality or {}).get(metric)
        return None if value is None else (value, 1.0)

    return Quotient(part)
