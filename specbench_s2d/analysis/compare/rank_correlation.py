"""How alike a run and a paper order the methods that both have: Spearman's rho, Kendall's tau-b, and how often chance
gives as much.

Each method counts once: where several decoders stand for one, that with the paper's own settings, else the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr

from specbench_s2d.analysis.tables.text import absent, number
from specbench_s2d.runs.record import BASELINE

LEAST_METHODS = 3
"""Of fewer, no rank correlation is given: any two methods are in the same order or the reverse."""
EXACT_UP_TO = 8
"""Methods up to which the p-value counts every order; beyond, it is that of Student's t."""
COLUMNS = ("rank_rho", "rank_tau_b", "rank_p", "rank_methods", "rank_reason")
_PREFIX = "rank_"
_DTYPES = {"rank_rho": "float64", "rank_tau_b": "float64", "rank_p": "float64", "rank_methods": "Int64"}
_GROUP = ["target", "paper_target", "device", "against", "suite", "metric"]
_FEW = 5  # below as many methods, even one order throughout is no more than a hint
_ROUNDING = 1e-9
_FEWER = f"fewer than {LEAST_METHODS} methods on both sides: {{}}"
_MEANING = (
    f"Rank correlation: Spearman's ρ over the methods that both have, {BASELINE} left out; 1 is the same order, -1 the "
    "reverse. p: how often a random order is as far from 0. Kendall's τ-b is in --json and --out."
)
_SEVERAL = "Where several decoders stand for one method, the one with the paper's settings counts, else the first."

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's `rho`, its two-sided `p` and Kendall's `tau_b` over so many methods; None with a `reason`."""

    methods: int
    rho: float | None = None
    tau_b: float | None = None
    p: float | None = None
    reason: str | None = None


def rank_correlation(ours: Sequence[float], theirs: Sequence[float]) -> RankCorrelation:
    """The rank correlation of both sides' values of the same methods; ties have their mean rank.

    `p`: the share of all orders of the methods whose rho is at least as far from 0; above `EXACT_UP_TO` methods that of
    Student's t, and no less than that of one order and its reverse.
    """
    methods = len(ours)
    if methods < LEAST_METHODS:
        return RankCorrelation(methods, reason=_FEWER.format(methods))
    if len(set(ours)) == 1 or len(set(theirs)) == 1:
        return RankCorrelation(methods, reason="one side has the same value for all methods")
    a_N, b_N = _centred_ranks(ours), _centred_ranks(theirs)
    rho = _rounded(a_N @ b_N / math.sqrt((a_N @ a_N) * (b_N @ b_N)))
    signs_a, signs_b = (np.sign(np.subtract.outer(ranks, ranks)) for ranks in (a_N, b_N))
    tau_b = _rounded((signs_a * signs_b).sum() / math.sqrt((signs_a**2).sum() * (signs_b**2).sum()))
    return RankCorrelation(methods, rho, tau_b, _p_value(a_N, b_N, rho))


def _rounded(value: Any) -> float:
    """Without the noise of the last digits, and never -0."""
    return round(float(value), 12) + 0.0


def _centred_ranks(values: Sequence[float]) -> Floats:
    """Ranks less their mean, (N,); equal values have the mean of their ranks."""
    ranks = pd.Series(values, dtype="float64").rank().to_numpy()
    return np.asarray(ranks - ranks.mean(), dtype=np.float64)


def _p_value(a_N: Floats, b_N: Floats, rho: float) -> float:
    """Two-sided: exact for few methods, by Student's t for many."""
    methods = len(a_N)
    if methods <= EXACT_UP_TO:
        by_chance = _products_by_chance(tuple(sorted(a_N)), tuple(sorted(b_N)))
        return float(np.mean(by_chance >= abs(a_N @ b_N) - _ROUNDING))
    t = abs(rho) * math.sqrt((methods - 2) / max(1 - rho**2, _ROUNDING))
    return max(float(2 * stdtr(methods - 2, -t)), 2 / math.factorial(methods))


@lru_cache(maxsize=64)
def _products_by_chance(a: tuple[float, ...], b: tuple[float, ...]) -> Floats:
    """How far from 0 the product of both sides' centred ranks is, in every order of one side's methods, (N!,)."""
    products: Floats = np.array(list(permutations(b))) @ np.array(a)
    return np.abs(products)


def add_correlations(table: pd.DataFrame, is_papers_own: Callable[[str, str], bool]) -> pd.DataFrame:
    """A comparison's table with the columns `COLUMNS`: in each row, the correlation over the methods of its target,
    device, suite and metric. `is_papers_own`: whether a label has the paper's settings of a method."""
    found: dict[Any, RankCorrelation] = {}
    for _, group in table.groupby(_GROUP, sort=False, dropna=False):
        pairs = _one_of_each(group.to_dict("records"), is_papers_own)
        ours, theirs = ([float(row[side]) for row in pairs] for side in ("ours", "published"))
        found |= dict.fromkeys(group.index, rank_correlation(ours, theirs))
    each = [found[row] for row in table.index]
    columns = {name: [getattr(of_row, name.removeprefix(_PREFIX)) for of_row in each] for name in COLUMNS}
    return table.assign(**columns).astype(_DTYPES)


def _one_of_each(
    rows: Iterable[Mapping[Any, Any]], is_papers_own: Callable[[str, str], bool]
) -> list[Mapping[Any, Any]]:
    """Rows with both values, so that no method and no decoder of ours counts twice."""
    complete = [row for row in rows if not absent(row["ours"]) and not absent(row["published"])]
    kept: list[Mapping[Any, Any]] = []
    for row in sorted(complete, key=lambda row: not is_papers_own(row["label"], row["method"])):
        if all(row["label"] != other["label"] and row["method"] != other["method"] for other in kept):
            kept.append(row)
    return kept


def correlation_line(rows: pd.DataFrame, suites: Sequence[str]) -> list[list[str]]:
    """A line for the table of one target, device and metric: rho above its p, suite by suite; none without any."""
    if rows["rank_rho"].isna().all():
        return []
    by_suite = {row["suite"]: row for row in rows.to_dict("records")}
    counts = sorted(set(rows[rows["rank_rho"].notna()]["rank_methods"]))
    head = f"rank correlation ρ\np, {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} methods"
    return [[head, *(f"{number(by_suite[s]['rank_rho'])}\n{number(by_suite[s]['rank_p'])}" for s in suites)]]


def correlation_notes(table: pd.DataFrame) -> list[str]:
    """What the correlations mean, how little those over few methods say, and where there is none."""
    given = table[table["rank_rho"].notna()]
    counts = sorted(set(given["rank_methods"]))
    few = [f"over {n} methods even the same order has p = {2 / math.factorial(n):.2f}" for n in counts if n < _FEW]
    several = bool(given.duplicated([*_GROUP, "method"]).any())
    return [
        *([_MEANING] if counts else []),
        *([f"A correlation over few methods says little: {'; '.join(few)}."] if few else []),
        *([_SEVERAL] if several else []),
        *([f"No rank correlation: {missing}."] if (missing := _missing(table)) else []),
    ]


def _missing(table: pd.DataFrame) -> str:
    """Which target of ours has no correlation with which of the paper's, in any suite, each reason once."""
    found: dict[str, dict[str, None]] = {}
    for (ours, theirs, *_), rows in table.groupby([*_GROUP[:3], "metric"], sort=False, dropna=False):
        if rows["rank_rho"].isna().all():
            most = rows.sort_values("rank_methods", ascending=False, kind="stable").iloc[0]
            found.setdefault(most["rank_reason"], {})[f"{ours} – {theirs}"] = None
    return "; ".join(f"{', '.join(pairs)} ({reason})" for reason, pairs in found.items())
