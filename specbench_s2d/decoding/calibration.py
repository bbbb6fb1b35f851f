"""From confidence to acceptance, learnt while decoding: how often a token read with such a confidence is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10
POSITIONS = 3  # first, second, and later draft positions
MEMORY = 400.0  # observations after which old ones fade
OPTIMISM_UNREAD = 1.08  # times what is known, for tokens not read yet: near break-even it is tried rather than given up
OPTIMISM_DEEPER = 0.05  # added to what is known, for tokens that might go deeper
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
    """Acceptance by exit, draft position and confidence, and how confident the first exit is.

    Start-up state: a token is accepted as often as its confidence says; every confidence is as frequent as any other;
    a token that goes on to the next exit is accepted `OPTIMISM_DEEPER` more often than one that leaves (so that it is
    tried before it is given up). Each is worth `PRIOR_WEIGHT` observations.
    """

    def __init__(self, exits: int) -> None:
        self._pooled = [[Share() for _ in range(BINS)] for _ in range(exits)]
        self._own = [[[Share() for _ in range(BINS)] for _ in range(POSITIONS)] for _ in range(exits)]
        self._gain = [[Share() for _ in range(BINS)] for _ in range(exits)]
        self._first = [[PRIOR_WEIGHT / BINS] * BINS for _ in range(POSITIONS)]

    def acceptance(self, stage: int, position: int, confidence: float) -> float:
        """The chance that a token read at exit `stage` (from 0) and draft position `position` (from 1) is accepted."""
        at = confidence_bin(confidence)
        pooled = self._pooled[stage][at].mean(confidence)
        return self._own[stage][_place(position)][at].mean(pooled)

    def gain(self, stage: int, confidence: float) -> float:
        """How much likelier acceptance becomes when a token of this confidence at exit `stage` goes on to the next."""
        return self._gain[stage][confidence_bin(confidence)].mean(OPTIMISM_DEEPER)

    def outlook(self, position: int) -> tuple[Floats, Floats]:
        """By bin of confidence at the first exit: the acceptance hoped for, and the share of tokens that fall there."""
        known_C = np.array([self.acceptance(0, position, (at + 0.5) / BINS) for at in range(BINS)])
        accept_C = np.minimum(known_C * OPTIMISM_UNREAD, 1.0)
        seen_C = np.array(self._first[_place(position)])
        return accept_C, seen_C / seen_C.sum()

    def read(self, position: int, confidence: float) -> None:
        """A token was read at the first exit with this confidence."""
        row = self._first[_place(position)]
        if sum(row) >= MEMORY:
            row[:] = [seen / 2 for seen in row]
        row[confidence_bin(confidence)] += 1

    def saw(self, stage: int, position: int, confidence: float, accepted: bool) -> None:
        """A token read at an exit was, or would have been, accepted."""
        at = confidence_bin(confidence)
        self._pooled[stage][at].add(accepted)
        self._own[stage][_place(position)][at].add(accepted)

    def saw_deeper(self, stage: int, confidence: float, shallow: bool, deep: bool) -> None:
        """A token of this confidence at exit `stage` went on to the next: was it right before, was it after?"""
        self._gain[stage][confidence_bin(confidence)].add(float(deep) - float(shallow))

    def least_judged(self, longest: int) -> float:
        """Tokens judged so far at the draft position, of those up to `longest`, that has fewest."""
        places = range(min(longest, POSITIONS))
        return min(sum(share.seen for share in self._own[0][place]) for place in places)

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
