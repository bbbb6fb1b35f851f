"""From confidence to acceptance, learnt while decoding: how often a token read with such a confidence is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BINS = 10
POSITIONS = 3  # first, second, and later draft positions
MEMORY = 400.0  # observations after which old ones fade
PRIOR_WEIGHT = 8.0  # observations that a prior is worth


@dataclass
class Share:
    """A share that fades: `hits` of `seen`."""

    seen: float = 0.0
    hits: float = 0.0

    def add(self, hit: float) -> None:
        if self.seen >= MEMORY:
            self.seen, self.hits = self.seen / 2, self.hits / 2
        self.seen += 1
        self.hits += hit

    def mean(self, prior: float, weight: float = PRIOR_WEIGHT) -> float:
        """The share, a prior counting as `weight` observations."""
        return (self.hits + prior * weight) / (self.seen + weight)


class Calibration:
    """Acceptance by exit, draft position and confidence.

    Start-up state: a token is accepted as often as its confidence says; a token that goes on to the deepest exit is
    accepted `HOPE_DEEPER` more often than one that leaves (hopeful, so that going deeper is tried before it is given
    up); a token not read yet is accepted with `HOPE_NEXT`. Each is worth `PRIOR_WEIGHT` observations.
    """

    HOPE_DEEPER = 0.05
    HOPE_NEXT = 0.7

    def __init__(self, exits: int) -> None:
        self._pooled = [[Share() for _ in range(BINS)] for _ in range(exits)]
        self._own = [[[Share() for _ in range(BINS)] for _ in range(POSITIONS)] for _ in range(exits)]
        self._gain = [[Share() for _ in range(BINS)] for _ in range(exits)]
        self._next: dict[tuple[int, int], Share] = {}

    def acceptance(self, stage: int, position: int, confidence: float) -> float:
        """The chance that a token read at exit `stage` (from 0) and draft position `position` (from 1) is accepted."""
        at = confidence_bin(confidence)
        pooled = self._pooled[stage][at].mean(confidence)
        return self._own[stage][_place(position)][at].mean(pooled)

    def gain(self, stage: int, confidence: float) -> float:
        """How much likelier acceptance becomes when a token of this confidence at exit `stage` goes deeper."""
        return self._gain[stage][confidence_bin(confidence)].mean(self.HOPE_DEEPER)

    def next(self, position: int, before: int) -> float:
        """The chance that a token not drafted yet is accepted, its predecessors being so; `before`: what came before.

        At the first position that is how the last step went, later the confidence bin of the token before.
        """
        return self._next.get((_place(position), before), Share()).mean(self._average(position))

    def _average(self, position: int) -> float:
        pooled = self._next.get((_place(position), -1), Share())
        return pooled.mean(self.HOPE_NEXT)

    def saw(self, stage: int, position: int, confidence: float, accepted: bool) -> None:
        """A token read at an exit was, or would have been, accepted."""
        at = confidence_bin(confidence)
        self._pooled[stage][at].add(accepted)
        self._own[stage][_place(position)][at].add(accepted)

    def saw_deeper(self, stage: int, confidence: float, shallow: bool, deep: bool) -> None:
        """A token of this confidence at exit `stage` went deeper: was it acceptable before, and was it after?"""
        self._gain[stage][confidence_bin(confidence)].add(float(deep) - float(shallow))

    def saw_next(self, position: int, before: int, accepted: bool) -> None:
        """A token that was drafted at a position was, or would have been, accepted."""
        for key in ((_place(position), before), (_place(position), -1)):
            self._next.setdefault(key, Share()).add(accepted)

    def facts(self) -> list[dict[str, Any]]:
        """By exit, position and confidence: observations and acceptance, for the manifest."""
        return [
            {"exit": stage, "position": place + 1, "confidence_from": at / BINS, "seen": s.seen, "accepted": s.hits}
            for stage, places in enumerate(self._own)
            for place, bins in enumerate(places)
            for at, s in enumerate(bins)
            if s.seen
        ]


def confidence_bin(confidence: float) -> int:
    """The bin, from 0, of a confidence in [0, 1]."""
    return min(int(confidence * BINS), BINS - 1)


def _place(position: int) -> int:
    return min(position, POSITIONS) - 1
