"""Likelihood and logits of an output's tokens, from one teacher-forced pass of its target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenScores:
    """`nll_sum`: negative log-likelihood of the new tokens in nats, at temperature 1. Per new token: the target's
    highest (`best`) and second-highest logit, and that of the token itself (`chosen`)."""

    nll_sum: float
    best: list[float]
    second: list[float]
    chosen: list[float]

    def margin(self, position: int) -> float:
        """The highest logit less the second; below the noise bound, the position is a near-tie."""
        return self.best[position] - self.second[position]

    def shortfall(self, position: int) -> float:
        """The highest logit less the token's own; 0 where that is the highest."""
        return self.best[position] - self.chosen[position]

    def ties(self, noise: float) -> list[int]:
        """Positions, from 0, whose margin is below `noise`."""
        return [i for i in range(len(self.best)) if self.margin(i) < noise]
