"""The divergence audit of lossless greedy outputs against those of autoregressive decoding (AR): identical, different
from a near-tie on, or wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


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

    @property
    def first_not_finite(self) -> int | None:
        """The first position, from 0, whose logits hold not-a-number or +inf, or are all -inf; None where there is
        none."""
        return next((i for i, best in enumerate(self.best) if not math.isfinite(best)), None)


class Divergence(BaseModel):
    """How a lossless greedy output compares with AR's, and with what its target computes in one pass.

    `position`: the new token, from 0, that decided the verdict. At that position: `best_logit` and `second_logit` of
    the teacher-forced pass, their difference `margin`, and `noise`, the measured bound on how far rounding moves such a
    difference.
    """

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["identical", "near_tie", "mismatch"]
    position: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    margin: float | None = None
    best_logit: float | None = None
    second_logit: float | None = None
    noise: float | None = None


def classify(output_ids: Sequence[int], baseline_ids: Sequence[int], scores: TokenScores, noise: float) -> Divergence:
    """Classify an output against AR's; `scores`: of the output's tokens, `noise`: the bound of `logit_noise`.

    Every token's logit must be its target's highest, or lie below it by no more than the noise; a cache that is wrong
    for all decoders, AR included, fails this. The verdict is near-tie if every token does, and the two highest logits
    differ by less than the noise where the output first differs from AR's. An output that is AR's with tokens missing
    or added at the end is a mismatch, without a margin. Where the output leaves AR's at a near-tie and a later token is
    wrong, that token decides.
    """
    wrong = first_wrong(output_ids, scores, noise)
    differs = _first_difference(output_ids, baseline_ids)
    if wrong is None and differs is None:
        return Divergence(verdict="identical")
    shorter = min(len(output_ids), len(baseline_ids))
    tied = differs is not None and differs < shorter and scores.margin(differs) < noise
    position = wrong if tied and wrong is not None else min(i for i in (wrong, differs) if i is not None)
    if position == differs == shorter:  # equal up to the shorter one's end
        return Divergence(verdict="mismatch", position=position, noise=noise)
    return _verdict("near_tie" if tied and wrong is None else "mismatch", position, scores, noise)


def classify_alone(output_ids: Sequence[int], scores: TokenScores, noise: float) -> Divergence | None:
    """The verdict on an output without AR's to compare with: a mismatch where a token's logit lies below its target's
    highest by more than the noise; else None, since nothing is known of AR's."""
    wrong = first_wrong(output_ids, scores, noise)
    if wrong is None:
        return None
    return _verdict("mismatch", wrong, scores, noise)


def _verdict(verdict: Literal["near_tie", "mismatch"], position: int, scores: TokenScores, noise: float) -> Divergence:
    logits = {"best_logit": scores.best[position], "second_logit": scores.second[position]}
    return Divergence(verdict=verdict, position=position, margin=scores.margin(position), noise=noise, **logits)


def first_wrong(output_ids: Sequence[int], scores: TokenScores, noise: float) -> int | None:
    """The first token whose logit lies below its target's highest by more than the noise, or is not a number; None
    where there is none."""
    return next((i for i in range(len(output_ids)) if not scores.shortfall(i) <= noise), None)


def _first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """The first position where two outputs differ, which may be the shorter one's end; None where they are equal."""
    if list(ours) == list(theirs):
        return None
    shorter = min(len(ours), len(theirs))
    return next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
