"""Percentile intervals by resampling questions. Pure functions of per-question sums.

A resample draws as many questions as there are, with replacement, once for all groups: a hard question weighs on every
side alike. Whatever a figure is, it is computed anew from the drawn questions' sums.

Shape suffixes: G groups (one per target, run or side), N questions, C columns that are summed, R resamples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from specbench_s2d.analysis.metrics.columns import Interval

RESAMPLES = 10_000
LEVEL = 0.95
_BLOCK_DRAWS = 5_000_000  # draws of the bootstrap held in memory at once

Floats = NDArray[np.float64]
Sums = Mapping[Hashable, Floats]
"""Each question's sums, (C,)."""
T = TypeVar("T")


def question_sums(
    items: Iterable[T], question: Callable[[T], Hashable], row: Callable[[T], Sequence[float | None]]
) -> Sums:
    """Sum `row` over the items of each question."""
    sums: dict[Hashable, list[Sequence[float | None]]] = defaultdict(list)
    for item in items:
        sums[question(item)].append(row(item))
    return {key: np.array(rows, dtype=np.float64).sum(axis=0) for key, rows in sums.items()}


def estimate(
    groups: Sequence[Sums],
    statistic: Callable[[Floats], Floats],
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, Interval]:
    """What `statistic` makes of the groups' sums over all questions, NaN or infinite where undefined, and its
    `interval`. Every group has a question."""
    totals_GC1 = np.array([np.sum(list(sums.values()), axis=0) for sums in groups])[:, :, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = float(statistic(totals_GC1)[0])
    return value, interval(groups, statistic, resamples, level, seed)


def interval(
    groups: Sequence[Sums],
    statistic: Callable[[Floats], Floats],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Percentile interval of what `statistic` makes of the groups' resampled sums, (G, C, R) to (R,).

    A question that a group lacks adds nothing there. Resamples that leave the statistic undefined (NaN or infinite)
    count for nothing. None below two questions.
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
        values_R = statistic(np.moveaxis(sums_RGC, 0, 2))
    values_R = values_R[np.isfinite(values_R)]
    if not len(values_R):
        return Interval(None, None, "no interval: no resample gives the figure")
    low, high = np.quantile(values_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _resampled(sums_NC: Floats, resamples: int, seed: int) -> Floats:
    """Column sums of `resamples` draws of N rows with replacement. Shape (R, C)."""
    if resamples * len(sums_NC) <= _BLOCK_DRAWS:
        return _kept_weights(len(sums_NC), resamples, seed) @ sums_NC
    return np.concatenate([weights_RN @ sums_NC for weights_RN in _weights(len(sums_NC), resamples, seed)])


@lru_cache(maxsize=4)
def _kept_weights(n: int, resamples: int, seed: int) -> Floats:
    """The whole of `_weights`, for tables whose rows have as many questions."""
    return np.concatenate(list(_weights(n, resamples, seed)))


def _weights(n: int, resamples: int, seed: int) -> Iterable[Floats]:
    """How often each resample draws each of `n` questions, (R, N), in blocks of bounded size."""
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK_DRAWS // n)
    for start in range(0, resamples, size):
        rows_RN = rng.integers(n, size=(min(size, resamples - start), n))
        cells = rows_RN + n * np.arange(len(rows_RN))[:, None]
        yield np.bincount(cells.ravel(), minlength=rows_RN.size).reshape(rows_RN.shape).astype(np.float64)
