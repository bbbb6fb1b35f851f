"""What one teacher-forced pass says of an output."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenScores:
    """An output under its target: the negative log-likelihood in nats at temperature 1, and per new token the two
    highest logits and that of the token itself."""

    nll_sum: float
    best: list[float]
    second: list[float]
    chosen: list[float]

    def margin(self, position: int) -> float:
        """How far the best logit lies above the second there: below the noise bound, a near-tie."""
        return self.best[position] - self.second[position]

    def shortfall(self, position: int) -> float:
        """How far the token's logit lies below the best; 0 where it is the best."""
        return self.best[position] - self.chosen[position]

    def ties(self, noise: float) -> list[int]:
        """Positions, from 0, whose margin is below `noise`."""
        return [i for i in range(len(self.best)) if self.margin(i) < noise]
