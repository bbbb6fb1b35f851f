"""Decode untimed until it takes as long as it did before: compiled, captured, cached and at its clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

AGREEING = 3
SPREAD = 0.05
MOST_RUNS = 8


@dataclass(frozen=True)
class WarmUp:
    """How a warm-up went: `spread` is (longest - shortest) / median of the last three runs, None below three."""

    runs: int
    spread: float | None
    stable: bool

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def warm_up(run: Callable[[], float], most_runs: int = MOST_RUNS) -> WarmUp:
    """Call `run`, which returns its seconds, until the last three agree within 5 %, at most `most_runs` times.

    A machine too restless to agree is no error: the result says so, and the report names it.
    """
    seconds: list[float] = []
    while len(seconds) < most_runs:
        seconds.append(run())
        last = seconds[-AGREEING:]
        if len(last) == AGREEING and (spread := _spread(last)) <= SPREAD:
            return WarmUp(len(seconds), spread, stable=True)
    return WarmUp(len(seconds), _spread(seconds[-AGREEING:]) if len(seconds) >= AGREEING else None, stable=False)


def _spread(seconds: list[float]) -> float:
    middle = median(seconds)
    return (max(seconds) - min(seconds)) / middle if middle > 0 else 0.0
