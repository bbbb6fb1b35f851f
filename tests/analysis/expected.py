"""What an interval is to be, from a value without each question in turn: one launch, worked apart from the package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from scipy.stats import t as student


def ends(
    value: float,
    without: Sequence[float],
    weights: Sequence[float],
    scale: Literal["log", "linear"] = "log",
    level: float = 0.95,
) -> tuple[float, float]:
    """Both ends: the delete-one jackknife (Efron and Tibshirani 1993, chapter 11) with as many degrees of freedom as
    Kish's effective number of questions leaves.

    `without`: the value without each question; `weights`: what each question weighs.
    """
    there, back = (math.log, math.exp) if scale == "log" else (float, float)
    points = [there(point) for point in without]
    spread = math.sqrt((len(points) - 1) / len(points) * sum((point - fmean(points)) ** 2 for point in points))
    effective = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    half = float(student.ppf((1 + level) / 2, effective - 1)) * spread
    return back(there(value) - half), back(there(value) + half)


def ends_of_three_copies(
    value: float,
    without_first: float,
    without_second: float,
    weights: tuple[float, float],
    scale: Literal["log", "linear"] = "log",
) -> tuple[float, float]:
    """Both ends for `factory.paper_run(3)`, or any run of three questions of either of two kinds: the value without one
    of the first kind and without one of the second, and what either kind weighs."""
    return ends(value, [without_first, without_second] * 3, [*weights] * 3, scale)
