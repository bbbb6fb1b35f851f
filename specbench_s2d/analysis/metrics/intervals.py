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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from specbench_s2d.analysis.metrics.pairs import Pair, Pairs
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.runs.columns import Asked, Columns, Floats, Ints, Mask, Records, in_order, together
from specbench_s2d.runs.record import Record

LEVEL = 0.95
LEAST_QUESTIONS = 5
"""Below as many, no interval is given: none covers what it claims."""

_ROUNDING = 1e-24  # a variance relative to the squared value, below which it is that of rounding


Summands = tuple[Mask, Floats]
"""Which items have something to add, and what each adds, (items, C)."""
Item = TypeVar("Item", bound=Record | Pair)


@dataclass(frozen=True)
class Sums:
    """The sums of each launch and question that has any, (K, C)."""

    asked: Asked
    sums_KC: Floats

    def __bool__(self) -> bool:
        return len(self.sums_KC) > 0

    @property
    def total_C(self) -> Floats:
        """Over all launches and questions."""
        total_C: Floats = self.sums_KC.sum(axis=0)
        return total_C


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

    `rows`: what finished `Records`, or `Pairs`, add to the sums. `shape`: the value of each group's sums, (G, C, R) to
    (G, R). `merged`: makes fewer items of several. `within`: bounds that no value exceeds. `weight`: the column that
    questions weigh by.
    """

    rows: Callable[[Any], Summands]
    shape: Callable[[Floats], Floats] = quotients
    merged: Callable[[Any], Any] | None = None
    scale: Scale = "log"
    within: tuple[float, float] = (-math.inf, math.inf)
    weight: int = -1

    def sums(self, items: Iterable[Item]) -> Sums:
        """The sums of each launch and question that has any."""
        found = _by_column(items)
        return found.once(self, lambda: self._sums(found))

    def _sums(self, found: Records | Pairs) -> Sums:
        if not len(found):
            return Sums(found.asked, np.zeros((0, 0)))
        merged = self.merged(found) if self.merged else found
        known, rows = self.rows(merged)
        return summed(merged.asked, rows) if known.all() else summed(merged.take(known).asked, rows[known])

    def value(self, sums: Sequence[Sums]) -> float:
        """The mean over groups of the value over all questions, NaN or infinite where undefined."""
        totals_GC = np.array([of_group.total_C for of_group in sums])
        return float(_values(totals_GC[:, :, None], self._mean)[0])

    def interval(self, groups: Sequence[Iterable[Item]], level: float = LEVEL) -> Interval:
        """The interval of the value; of several groups of one run, of the mean of their values."""
        sums = list(map(self.sums, _comparable(groups)))
        found = interval(sums, self._mean, self.scale, level, weight=self.weight)
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

        sums = list(map(self.sums, _comparable([*ours, *theirs])))
        return interval(sums, ratio, "log", level, [0] * len(ours) + [1] * len(theirs), self.weight)

    def compare(self: Statistic[Record], groups: Sequence[Iterable[Pair]], how: How) -> tuple[Measure, Interval]:
        """Our value compared with theirs, as `how` says, on the cells that both have; of several groups, the mean.

        None unless every group has such a cell.
        """
        of_both, scale = _HOW[how]

        def rows(pairs: Pairs) -> Summands:
            (has, ours), (have, theirs) = self.rows(pairs.ours), self.rows(pairs.baseline)
            return has & have, np.hstack([ours, theirs])

        def shape(sums_GCR: Floats) -> Floats:
            return of_both(*map(self.shape, np.split(sums_GCR, 2, axis=1)))

        both = Statistic[Pair](rows, shape, scale=scale, weight=self.weight)
        sums = [both.sums(pairs) for pairs in groups]
        if not sums or not all(sums):
            return Measure(None, _NOTHING_SHARED), Interval(None, None, _NOTHING_SHARED)
        value, ends = both.value(sums), both.interval(groups)
        return Measure(value) if np.isfinite(value) else Measure(None, "the other's value is 0 or undefined"), ends

    def _mean(self, sums_GCR: Floats) -> Floats:
        values_GR = self.shape(sums_GCR)
        means_R: Floats = values_GR[0] if len(values_GR) == 1 else values_GR.mean(axis=0)
        return means_R


def _by_column(items: Iterable[Any]) -> Records | Pairs:
    """Finished records, or pairs, by column."""
    if isinstance(items, Pairs):
        return items
    if isinstance(items, Records):
        return items.finished
    listed = list(items)
    return Pairs.of(listed) if listed and isinstance(listed[0], Pair) else Records.of(listed).finished


def _columns_of(items: Records | Pairs) -> list[Columns]:
    """Whose rows they are."""
    return [items.columns] if isinstance(items, Records) else [items.ours.columns, items.baseline.columns]


def _comparable(groups: Sequence[Iterable[Any]]) -> list[Any]:
    """The groups as rows of the same columns, where a question has one number."""
    found = list(map(_by_column, groups))
    if len({id(columns) for items in found for columns in _columns_of(items)}) <= 1:
        return found
    sides = [[items] if isinstance(items, Records) else [items.ours, items.baseline] for items in found]
    same = iter(together(*chain.from_iterable(sides)))
    return [next(same) if isinstance(items, Records) else Pairs(next(same), next(same)) for items in found]


def stacked(*columns: NDArray[Any]) -> Summands:
    """Columns side by side; an item has something to add where it has all of them."""
    rows = np.column_stack(columns).astype(np.float64, copy=False)
    known: Mask = np.logical_not(np.isnan(rows).any(axis=1))
    return known, rows


def summed(asked: Asked, rows: Floats) -> Sums:
    """The sums of items' rows by the launch and question that each answers."""
    return Sums(asked, _added(asked.places, rows, len(asked.questions)))


def _added(places: Ints, rows: Floats, count: int) -> Floats:
    """The rows of each place added in their order, (count, columns)."""
    added = np.empty((count, rows.shape[1]))
    for column in range(rows.shape[1]):
        added[:, column] = np.bincount(places, rows[:, column], count)
    return added


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
    by_question_NGC = _parts(groups, "questions")
    n = len(by_question_NGC)
    if n < LEAST_QUESTIONS:
        return Interval(None, None, f"n = {n}: no interval from fewer than {LEAST_QUESTIONS} questions", n)
    total_GC = by_question_NGC.sum(axis=0)
    middle = _on_scale(_values(total_GC[:, :, None], of_sums), scale)[0]
    freedom = max(1.0, _effective(by_question_NGC[:, :, weight]) - 1)
    levels = [(_jackknife(_on_scale(_without(total_GC, by_question_NGC, of_sums), scale)), freedom)]
    run_of = runs or [0] * len(groups)
    for run in dict.fromkeys(run_of):
        of_run = [sums if run_of[group] == run else None for group, sums in enumerate(groups)]
        launches_LGC = _parts(of_run, "launches")
        if len(launches_LGC) > 1:
            without_L = _on_scale(_without(total_GC, launches_LGC, of_sums), scale)
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


def _parts(groups: Sequence[Sums | None], which: Literal["questions", "launches"]) -> Floats:
    """The sums of each question or launch, (parts, G, C), in the order of the first of each; a group that is None is
    in none."""
    kept = [(group, sums) for group, sums in enumerate(groups) if sums]
    if not kept:
        return np.zeros((0, len(groups), 0))
    found = [sums.asked.in_order(which) for _, sums in kept]
    if len(kept) == 1:
        [(places, parts)] = found
        places_of = [places]
    else:
        # Each group's parts by their place among those of all: the groups mostly have the same.
        merged, parts = in_order(np.concatenate([parts for _, parts in found]))
        ends = np.cumsum([len(parts) for _, parts in found])[:-1]
        places_of = [of_all[places] for of_all, (places, _) in zip(np.split(merged, ends), found, strict=True)]
    sums_PGC = np.zeros((len(parts), len(groups), kept[0][1].sums_KC.shape[1]))
    for (group, sums), places in zip(kept, places_of, strict=True):
        sums_PGC[:, group] = _added(places, sums.sums_KC, len(parts))
    return sums_PGC


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
    totals_G = weights_NG.sum(axis=0)
    shares_NG = np.divide(weights_NG, totals_G, out=np.zeros(weights_NG.shape), where=totals_G != 0)
    shares_N = shares_NG[:, 0] if len(totals_G) == 1 else shares_NG.mean(axis=1)
    return float(shares_N.sum() ** 2 / np.sum(shares_N**2)) if shares_N.any() else 1.0
