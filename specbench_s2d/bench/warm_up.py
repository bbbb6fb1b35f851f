"""Decode untimed until it takes as long as it did before: compiled, captured, cached and at its clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

HALF = 3
"""Runs whose median is held against that of as many runs before them."""
DRIFT = 0.10
SPREAD = 0.25
MOST_RUNS = 16


@dataclass(frozen=True)
class WarmUp:
    """How a warm-up went, by its last six runs.

    `drift`: the median of the last three over that of the three before, less 1: well below 0 while something still
    warms up. `spread`: (longest - shortest) / median of the six without the slowest: large on a restless machine.
    """

    runs: int
    drift: float
    spread: float
    stable: bool

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def warm_up(run: Callable[[], float]) -> WarmUp:
    """Call `run`, which returns its seconds, until the medians of three runs and of the three before agree within 10 %
    and the six, without the slowest, lie within 25 %; at most 16 times.

    A machine too restless for that is no error: the result says so, and the run's head names it. Medians, for single
    runs of some milliseconds differ by 5 % at rest.
    """
    seconds: list[float] = []
    while len(seconds) < MOST_RUNS:
        seconds.append(run())
        if len(seconds) >= 2 * HALF and (done := _judged(seconds)).stable:
            return done
    return _judged(seconds)


def _judged(seconds: Sequence[float]) -> WarmUp:
    last = seconds[-2 * HALF :]
    before, after = median(last[:HALF]), median(last[HALF:])
    usual = sorted(last)[:-1]
    drift, spread = after / before - 1, (usual[-1] - usual[0]) / median(last)
    return WarmUp(len(seconds), drift, spread, abs(drift) <= DRIFT and spread <= SPREAD)
