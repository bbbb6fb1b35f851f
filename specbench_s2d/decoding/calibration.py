"""Acceptance as a function of confidence, learnt while decoding by `s2d-auto`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10
POSITIONS = 3  # first, second, and later draft positions
MEMORY = 400.0  # observations after which old ones are halved
OPTIMISM_UNREAD = 1.08  # factor on the acceptance of tokens not read yet, so that drafting near break-even is tried
OPTIMISM_DEEPER = 0.05  # prior gain in acceptance by going to the next exit
PRIOR_WEIGHT = 8.0  # observations that a prior counts as


@dataclass
class FadingRate:
    """A rate whose old observations fade: `hits` of `seen`."""

    seen: float = 0.0
    hits: float = 0.0

    def add(self, hit: float) -> None:
        if self.seen >= MEMORY:
            self.seen, self.hits = self.seen / 2, self.hits / 2
        self.seen += 1
        self.hits += hit

    def mean(self, prior: float, weight: float = PRIOR_WEIGHT) -> float:
        """The rate, with a prior that counts as `weight` observations."""
        return (self.hits + prior * weight) / (self.seen + weight)


class Calibration:
    """Acceptance rates by exit, draft position and confidence, and the distribution of the first exit's confidence.

    Priors, each worth `PRIOR_WEIGHT` observations: a token is accepted with the probability that its confidence states;
    all confidences are equally frequent; going to the next exit raises acceptance by `OPTIMISM_DEEPER`.
    """

    def __init__(self, exits: int) -> None:
        self._pooled = [[FadingRate() for _ in range(BINS)] for _ in range(exits)]
        self._own = [[[FadingRate() for _ in range(BINS)] for _ in range(POSITIONS)] for _ in range(exits)]
        self._gain = [[FadingRate() for _ in range(BINS)] for _ in range(exits)]
        self._confidences = [[PRIOR_WEIGHT / BINS] * BINS for _ in range(POSITIONS)]

    def acceptance(self, stage: int, position: int, confidence: float) -> float:
        """The probability that a token read at exit `stage` (from 0) and draft position `position` (from 1) is
        accepted."""
        i = confidence_bin(confidence)
        pooled = self._pooled[stage][i].mean(confidence)
        return self._own[stage][_group(position)][i].mean(pooled)

    def gain(self, stage: int, confidence: float) -> float:
        """The rise in acceptance when a token of this confidence at exit `stage` goes on to the next exit."""
        return self._gain[stage][confidence_bin(confidence)].mean(OPTIMISM_DEEPER)

    def forecast(self, position: int) -> tuple[Floats, Floats]:
        """For a token not read yet, by confidence bin of the first exit: its acceptance (with `OPTIMISM_UNREAD`), and
        the probability of the bin."""
        known_C = np.array([self.acceptance(0, position, (i + 0.5) / BINS) for i in range(BINS)])
        accept_C = np.minimum(known_C * OPTIMISM_UNREAD, 1.0)
        seen_C = np.array(self._confidences[_group(position)])
        return accept_C, seen_C / seen_C.sum()

    def observe_confidence(self, position: int, confidence: float) -> None:
        """Record the confidence of a token at the first exit."""
        row = self._confidences[_group(position)]
        if sum(row) >= MEMORY:
            row[:] = [seen / 2 for seen in row]
        row[confidence_bin(confidence)] += 1

    def observe(self, stage: int, position: int, confidence: float, accepted: bool) -> None:
        """Record whether a token read at an exit was, or would have been, accepted."""
        i = confidence_bin(confidence)
        self._pooled[stage][i].add(accepted)
        self._own[stage][_group(position)][i].add(accepted)

    def observe_deeper(self, stage: int, confidence: float, shallow: bool, deep: bool) -> None:
        """Record whether a token that went from exit `stage` to the next was right at the first, and at the second."""
        self._gain[stage][confidence_bin(confidence)].add(float(deep) - float(shallow))

    def fewest_observations(self, longest: int) -> float:
        """Tokens judged so far at the draft position (up to `longest`) that has the fewest."""
        groups = range(min(longest, POSITIONS))
        return min(sum(rate.seen for rate in self._own[0][group]) for group in groups)

    def facts(self) -> list[dict[str, Any]]:
        """Observations and acceptances by exit, position and confidence, for the manifest."""
        return [
            {"exit": stage, "position": group + 1, "confidence_from": i / BINS, "seen": r.seen, "accepted": r.hits}
            for stage, groups in enumerate(self._own)
            for group, bins in enumerate(groups)
            for i, r in enumerate(bins)
            if r.seen
        ]


def confidence_bin(confidence: float) -> int:
    """The bin, from 0, of a confidence in [0, 1]."""
    return min(int(confidence * BINS), BINS - 1)


def _group(position: int) -> int:
    return min(position, POSITIONS) - 1
