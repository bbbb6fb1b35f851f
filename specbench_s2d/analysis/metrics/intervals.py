"""95 % intervals over two levels: the questions that were asked, and the launches (fresh processes) that asked them.

Whatever a value is, it is computed anew without each question in turn, and without each launch in turn; how far it
moves gives its variance (the delete-one jackknife, on both levels), and Student's t the interval. A question weighs on
every side alike, for all of it is left out at once. Ratios are taken by their logarithm. The degrees of freedom of the
questions are those of as many questions as weigh in (Kish's effective number): where a few long answers make up most of
the time, these few are what the interval stands on. Both levels together: Welch and Satterthwaite. Sources: Efron and
Tibshirani 1993, chapter 11; Kalibera and Jones 2013; coverage by simulation: `benchmarks/coverage.py`.

Shape suffixes: G groups (one per target, run or side), N questions, L launches, C columns that are summed, R values at
once (1 of everything, or one for each that is left out).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from specbench_s2d.analysis.metrics.pairs import Pair, launch_of, question_of
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.runs.record import Record

LEVEL = 0.95
LEAST_QUESTIONS = 5
"""Below as many, no interval is given: none covers what it claims."""

_ROUNDING = 1e-24  # a variance relative to the squared value, below which it is that of rounding

Floats = NDArray[np.float64]
Sums = Mapping[tuple[int, Hashable], Floats]
"""The sums of each launch and question, (C,)."""
Summands = Sequence[float | None]
T = TypeVar("T")
Item = TypeVar("Item", bound=Record | Pair)
Scale = Literal["log", "linear"]
"""How a value varies evenly: ratios and other positive values by their logarithm."""

How = Literal["ratio", "difference", "reduction_percent", "times_less"]
# What becomes of both sides' values: their ratio, their difference, the per cent by which ours lies below theirs, how
# many times ours theirs is; and the scale of that.
_HOW: dict[How, tuple[Callable[[Floats, Floats], Floats], Scale]] = {
    "ratio": (lambda ours, theirs: ours / theirs, "log"),
    "difference": (lambda ours, theirs: ours - theirs, "linear"),
    "times_less": (lambda ours, theirs: theirs / ours, "log"),
    "reduction_percent": (lambda ours, theirs: 100 * (1 - ours / theirs), "linear"),
}
_NOTHING_SHARED = "no cell that both have"


def quotients(sums_GCR: Floats) -> Floats:
    """The first column over the second, (G, R)."""
    return sums_GCR[:, 0] / sums_GCR[:, 1]


@dataclass(frozen=True)
class Statistic(Generic[Item]):
    """A value that sums over questions and launches give, with its interval.

    `row`: what a finished record, or a pair, adds to the sums, None where it lacks that; `weight`: the column that
    questions weigh by. `shape`: the value of each group's sums, (G, C, R) to (G, R). `merged`: makes fewer items of
    several. `within`: bounds that no value exceeds.
    """

    row: Callable[[Item], Summands | None]
    shape: Callable[[Floats], Floats] = quotients
    merged: Callable[[Iterable[Item]], Iterable[Item]] = iter
    scale: Scale = "log"
    within: tuple[float, float] = (-math.inf, math.inf)
    weight: int = -1

    def sums(self, items: Iterable[Item]) -> Sums:
        """The sums of each launch and question that has any."""
        finished = (item for item in self.merged(items) if not isinstance(item, Record) or item.status == "ok")
        rows = (((launch_of(item), question_of(item)), row) for item in finished if (row := self.row(item)))
        return summed(rows)

    def value(self, sums: Sequence[Sums]) -> float:
        """The mean over groups of the value over all questions, NaN or infinite where undefined."""
        totals_GC = np.array([np.sum(list(of_question.values()), axis=0) for of_question in sums])
        return float(_values(totals_GC[:, :, None], self._mean)[0])

    def interval(self, groups: Sequence[Iterable[Item]], level: float = LEVEL) -> Interval:
        """The interval of the value; of several groups of one run, of the mean of their values."""
        found = interval([self.sums(items) for items in groups], self._mean, self.scale, level, weight=self.weight)
        if found.low is None or found.high is None:
            return found
        low, high = (min(max(end, self.within[0]), self.within[1]) for end in (found.low, found.high))
        return replace(found, low=low, high=high)

    def ratio_interval(
        self, ours: Sequence[Iterable[Item]], theirs: Sequence[Iterable[Item]], level: float = LEVEL
    ) -> Interval:
        """The interval of our mean over groups over theirs, of another run: of the same questions, in other
        launches."""

        def ratio(sums_GCR: Floats) -> Floats:
            values_GR = self.shape(sums_GCR)
            ratios_R: Floats = values_GR[: len(ours)].mean(axis=0) / values_GR[len(ours) :].mean(axis=0)
            return ratios_R

        sums = [self.sums(items) for items in (*ours, *theirs)]
        return interval(sums, ratio, "log", level, [0] * len(ours) + [1] * len(theirs), self.weight)

    def compare(self: Statistic[Record], groups: Sequence[Sequence[Pair]], how: How) -> tuple[Measure, Interval]:
        """Our value compared with theirs, as `how` says, on the cells that both have; of several groups, the mean.

        None unless every group has such a cell.
        """
        of_both, scale = _HOW[how]

        def row(pair: Pair) -> Summands | None:
            ours, theirs = self.row(pair.ours), self.row(pair.baseline)
            return [*ours, *theirs] if ours and theirs else None

        def shape(sums_GCR: Floats) -> Floats:
            return of_both(*map(self.shape, np.split(sums_GCR, 2, axis=1)))

        both = Statistic[Pair](row, shape, scale=scale, weight=self.weight)
        sums = [both.sums(pairs) for pairs in groups]
        if not sums or not all(sums):
            return Measure(None, _NOTHING_SHARED), Interval(None, None, _NOTHING_SHARED)
        value, ends = both.value(sums), both.interval(groups)
        return Measure(value) if np.isfinite(value) else Measure(None, "the other's value is 0 or undefined"), ends

    def _mean(self, sums_GCR: Floats) -> Floats:
        means_R: Floats = self.shape(sums_GCR).mean(axis=0)
        return means_R


def summed(rows: Iterable[tuple[tuple[int, Hashable], Summands]]) -> Sums:
    """The sums of rows by their launch and question."""
    sums: dict[tuple[int, Hashable], list[Summands]] = defaultdict(list)
    for key, row in rows:
        sums[key].append(row)
    return {key: np.array(rows_of, dtype=np.float64).sum(axis=0) for key, rows_of in sums.items()}


def interval(
    groups: Sequence[Sums],
    of_sums: Callable[[Floats], Floats],
    scale: Scale = "log",
    level: float = LEVEL,
    runs: Sequence[int] | None = None,
    weight: int = -1,
) -> Interval:
    """The interval of what `of_sums` makes of the groups' sums, (G, C, R) to (R,).

    A question that a group lacks adds nothing there. `runs`: the run that each group is of, where they are of several;
    a launch belongs to its run. `weight`: the column that questions weigh by. None below `LEAST_QUESTIONS`, and where
    the value, or the value without one of its questions or launches, is undefined.
    """
    questions = _parts(groups, lambda _, key: key[1])
    n = len(questions)
    if n < LEAST_QUESTIONS:
        return Interval(None, None, f"n = {n}: no interval from fewer than {LEAST_QUESTIONS} questions", n)
    by_question_NGC = np.array(list(questions.values()))
    total_GC = by_question_NGC.sum(axis=0)
    middle = _on_scale(_values(total_GC[:, :, None], of_sums), scale)[0]
    freedom = max(1.0, _effective(by_question_NGC[:, :, weight]) - 1)
    levels = [(_jackknife(_on_scale(_without(total_GC, by_question_NGC, of_sums), scale)), freedom)]
    run_of = runs or [0] * len(groups)
    for run in dict.fromkeys(run_of):
        launches = _parts(groups, partial(_launch_of, run_of, run))
        if len(launches) > 1:
            without_L = _on_scale(_without(total_GC, np.array(list(launches.values())), of_sums), scale)
            levels.append((_jackknife(without_L), len(without_L) - 1.0))
    variance = sum(part for part, _ in levels)
    if not (math.isfinite(middle) and math.isfinite(variance)):
        return Interval(None, None, "no interval: without one of its questions or launches there is no value", n)
    if scale == "linear" and variance <= _ROUNDING * max(1.0, float(middle) ** 2):
        return Interval(None, None, f"no interval: all {n} questions have the same value", n)
    degrees = variance**2 / sum(part**2 / df for part, df in levels) if variance else 1.0
    half = float(stdtrit(degrees, (1 + level) / 2)) * math.sqrt(variance)
    low, high = (float(middle) - half, float(middle) + half)
    return Interval(math.exp(low), math.exp(high), None, n) if scale == "log" else Interval(low, high, None, n)


def _parts(groups: Sequence[Sums], part_of: Callable[[int, tuple[int, Hashable]], Hashable]) -> dict[Hashable, Floats]:
    """The sums of each part, (G, C), by what `part_of` makes of a group's place, launch and question; None is of no
    part."""
    parts: dict[Hashable, Floats] = {}
    shape = len(groups), len(next((row for sums in groups for row in sums.values()), ()))
    for group, sums in enumerate(groups):
        for key, sums_C in sums.items():
            if (part := part_of(group, key)) is not None:
                parts.setdefault(part, np.zeros(shape))[group] += sums_C
    return parts


def _launch_of(run_of: Sequence[int], run: int, group: int, key: tuple[int, Hashable]) -> int | None:
    """The launch of a group's sums, where the group is of this run."""
    return key[0] if run_of[group] == run else None


def _without(total_GC: Floats, parts_RGC: Floats, of_sums: Callable[[Floats], Floats]) -> Floats:
    """The values of all but each part, (R,)."""
    return _values(np.moveaxis(total_GC - parts_RGC, 0, 2), of_sums)


def _values(sums_GCR: Floats, of_sums: Callable[[Floats], Floats]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return of_sums(sums_GCR)


def _on_scale(values_R: Floats, scale: Scale) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values_R) if scale == "log" else values_R


def _jackknife(without_R: Floats) -> float:
    """The variance of a value from what it is without each of R parts."""
    count = len(without_R)
    if not np.isfinite(without_R).all():
        return math.nan
    return float((count - 1) / count * np.sum((without_R - without_R.mean()) ** 2))


def _effective(weights_NG: Floats) -> float:
    """Kish's effective number of questions, by their share of each group's weights; groups weigh alike."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares_N = np.nan_to_num(weights_NG / weights_NG.sum(axis=0)).mean(axis=1)
    return float(shares_N.sum() ** 2 / np.sum(shares_N**2)) if shares_N.any() else 1.0
