"""Percentile intervals by resampling questions.

A resample draws as many questions as there are, with replacement, once for all groups: a hard question weighs on every
side alike. Whatever a value is, it is computed anew from the drawn questions' sums.

Shape suffixes: G groups (one per target, run or side), N questions, C columns that are summed, R resamples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from specbench_s2d.analysis.metrics.pairs import Pair, question_of
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.runs.record import Record

RESAMPLES = 10_000
LEVEL = 0.95
_BLOCK_DRAWS = 5_000_000  # draws of the bootstrap held in memory at once

Floats = NDArray[np.float64]
Sums = Mapping[Hashable, Floats]
"""Each question's sums, (C,)."""
Summands = Sequence[float | None]
T = TypeVar("T")
Item = TypeVar("Item", bound=Record | Pair)

How = Literal["ratio", "difference", "reduction_percent", "times_less"]
# What becomes of both sides' values: their ratio, their difference, the per cent by which ours lies below theirs, how
# many times ours theirs is.
_HOW: dict[How, Callable[[Floats, Floats], Floats]] = {
    "ratio": lambda ours, theirs: ours / theirs,
    "difference": lambda ours, theirs: ours - theirs,
    "times_less": lambda ours, theirs: theirs / ours,
    "reduction_percent": lambda ours, theirs: 100 * (1 - ours / theirs),
}
_NOTHING_SHARED = "no cell that both have"


def quotients(sums_GCR: Floats) -> Floats:
    """The first column over the second, (G, R)."""
    return sums_GCR[:, 0] / sums_GCR[:, 1]


@dataclass(frozen=True)
class Statistic(Generic[Item]):
    """A value that sums over questions give, with its interval.

    `row`: what a finished record, or a pair, adds to the sums, None where it lacks that. `shape`: the value of each
    group's sums, (G, C, R) to (G, R). `merged`: makes fewer items of several. `most_resamples`: for a slow `shape`.
    """

    row: Callable[[Item], Summands | None]
    shape: Callable[[Floats], Floats] = quotients
    merged: Callable[[Iterable[Item]], Iterable[Item]] = iter
    most_resamples: int = RESAMPLES

    def sums(self, items: Iterable[Item]) -> Sums:
        """The sums of each question that has any."""
        finished = (item for item in self.merged(items) if not isinstance(item, Record) or item.status == "ok")
        rows = ((question_of(item), row) for item in finished if (row := self.row(item)))
        return question_sums(rows, lambda pair: pair[0], lambda pair: pair[1])

    def value(self, sums: Sequence[Sums]) -> float:
        """The mean over groups of the value over all questions, NaN or infinite where undefined."""
        totals_GC1 = np.array([np.sum(list(of_question.values()), axis=0) for of_question in sums])[:, :, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return float(self._mean(totals_GC1)[0])

    def interval(
        self, groups: Sequence[Iterable[Item]], resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
    ) -> Interval:
        """The interval of the value; of several groups, of the mean of their values."""
        sums = [self.sums(items) for items in groups]
        return interval(sums, self._mean, min(resamples, self.most_resamples), level, seed)

    def ratio_interval(
        self,
        ours: Sequence[Iterable[Item]],
        theirs: Sequence[Iterable[Item]],
        resamples: int = RESAMPLES,
        seed: int = 0,
        level: float = LEVEL,
    ) -> Interval:
        """The interval of our mean over groups over theirs: each resample draws questions once for both sides."""

        def ratio(sums_GCR: Floats) -> Floats:
            values_GR = self.shape(sums_GCR)
            ratios_R: Floats = values_GR[: len(ours)].mean(axis=0) / values_GR[len(ours) :].mean(axis=0)
            return ratios_R

        sums = [self.sums(items) for items in (*ours, *theirs)]
        return interval(sums, ratio, min(resamples, self.most_resamples), level, seed)

    def compare(
        self: Statistic[Record], groups: Sequence[Sequence[Pair]], how: How, resamples: int = RESAMPLES, seed: int = 0
    ) -> tuple[Measure, Interval]:
        """Our value compared with theirs, as `how` says, on the cells that both have; of several groups, the mean.

        None unless every group has such a cell.
        """

        def row(pair: Pair) -> Summands | None:
            ours, theirs = self.row(pair.ours), self.row(pair.baseline)
            return [*ours, *theirs] if ours and theirs else None

        def shape(sums_GCR: Floats) -> Floats:
            return _HOW[how](*map(self.shape, np.split(sums_GCR, 2, axis=1)))

        both = Statistic[Pair](row, shape, most_resamples=self.most_resamples)
        sums = [both.sums(pairs) for pairs in groups]
        if not sums or not all(sums):
            return Measure(None, _NOTHING_SHARED), Interval(None, None, _NOTHING_SHARED)
        value, interval = both.value(sums), both.interval(groups, resamples, seed)
        return Measure(value) if np.isfinite(value) else Measure(None, "the other's value is 0 or undefined"), interval

    def _mean(self, sums_GCR: Floats) -> Floats:
        means_R: Floats = self.shape(sums_GCR).mean(axis=0)
        return means_R


def question_sums(items: Iterable[T], question: Callable[[T], Hashable], row: Callable[[T], Summands]) -> Sums:
    """Sum `row` over the items of each question."""
    sums: dict[Hashable, list[Summands]] = defaultdict(list)
    for item in items:
        sums[question(item)].append(row(item))
    return {key: np.array(rows, dtype=np.float64).sum(axis=0) for key, rows in sums.items()}


def interval(
    groups: Sequence[Sums],
    of_sums: Callable[[Floats], Floats],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Percentile interval of what `of_sums` makes of the groups' resampled sums, (G, C, R) to (R,).

    A question that a group lacks adds nothing there. Resamples that leave the value undefined (NaN or infinite) count
    for nothing. None below two questions.
    """
    questions = list(dict.fromkeys(question for sums in groups for question in sums))
    n = len(questions)
    if n < 2:
        return Interval(None, None, f"no interval from {n} question{'' if n == 1 else 's'}")
    columns = len(next(iter(sums[question] for sums in groups for question in sums)))
    nothing = np.zeros(columns)
    sums_NGC = np.array([[sums.get(question, nothing) for sums in groups] for question in questions])
    sums_RGC = _resampled(sums_NGC.reshape(n, -1), resamples, seed).reshape(-1, len(groups), columns)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values_R = of_sums(np.moveaxis(sums_RGC, 0, 2))
    values_R = values_R[np.isfinite(values_R)]
    if not len(values_R):
        return Interval(None, None, "no interval: no resample gives a value")
    low, high = np.quantile(values_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _resampled(sums_NC: Floats, resamples: int, seed: int) -> Floats:
    """Column sums of `resamples` draws of N rows with replacement. Shape (R, C)."""
    if resamples * len(sums_NC) <= _BLOCK_DRAWS:
        return _kept_weights(len(sums_NC), resamples, seed) @ sums_NC
    return np.concatenate([weights_RN @ sums_NC for weights_RN in _weights(len(sums_NC), resamples, seed)])


@lru_cache(maxsize=4)
def _kept_weights(n: int, resamples: int, seed: int) -> Floats:
    """All of `_weights`, for tables whose rows have as many questions."""
    return np.concatenate(list(_weights(n, resamples, seed)))


def _weights(n: int, resamples: int, seed: int) -> Iterable[Floats]:
    """How often each resample draws each of `n` questions, (R, N), in blocks of bounded size."""
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK_DRAWS // n)
    for start in range(0, resamples, size):
        rows_RN = rng.integers(n, size=(min(size, resamples - start), n))
        cells = rows_RN + n * np.arange(len(rows_RN))[:, None]
        yield np.bincount(cells.ravel(), minlength=rows_RN.size).reshape(rows_RN.shape).astype(np.float64)
