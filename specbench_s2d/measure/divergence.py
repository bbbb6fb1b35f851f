"""The divergence audit: a lossless greedy output is AR's, parts from it at a near-tie, or is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from specbench_s2d.measure.token_scores import TokenScores


class Divergence(BaseModel):
    """How a lossless greedy output compares with AR's, and with what its target computes in one pass.

    `position`: the new token, from 0, that decided the verdict. There: `best_logit` and `second_logit` of the
    teacher-forced pass, their gap `margin`, and `noise`, the measured bound of what rounding moves a gap by.
    """

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["identical", "near_tie", "mismatch"]
    position: int | None = None
    margin: float | None = None
    best_logit: float | None = None
    second_logit: float | None = None
    noise: float | None = None


def classify(output_ids: Sequence[int], baseline_ids: Sequence[int], scored: TokenScores, noise: float) -> Divergence:
    """Class an output against AR's; `scored`: the output in one teacher-forced pass, `noise`: the bound of
    `measure.scoring.logit_noise`.

    Every token must be its target's best or lie within the noise below it: a cache that is wrong for all decoders
    alike shows here, AR itself included. Near-tie: so it is, and where the output first parts from AR's the two best
    logits lie within the noise. Of two outputs of which one begins with the other, the longer parts at the shorter's
    end, without a margin: a mismatch.
    """
    wrong = first_wrong(output_ids, scored, noise)
    parted = _first_difference(output_ids, baseline_ids)
    if wrong is None and parted is None:
        return Divergence(verdict="identical")
    position = min(i for i in (wrong, parted) if i is not None)
    if position == min(len(output_ids), len(baseline_ids)):  # no tie made them part: equal tokens end alike
        return Divergence(verdict="mismatch", position=position, noise=noise)
    margin = scored.margin(position)
    return Divergence(
        verdict="near_tie" if wrong is None and margin < noise else "mismatch",
        position=position,
        margin=margin,
        best_logit=scored.best[position],
        second_logit=scored.second[position],
        noise=noise,
    )


def classify_alone(output_ids: Sequence[int], scored: TokenScores, noise: float) -> Divergence | None:
    """The verdict on an output that has no AR output to compare with: a mismatch where a token is not its target's
    best within the noise; else None, for nothing is known of AR's."""
    wrong = first_wrong(output_ids, scored, noise)
    if wrong is None:
        return None
    logits = {"best_logit": scored.best[wrong], "second_logit": scored.second[wrong]}
    return Divergence(verdict="mismatch", position=wrong, margin=scored.margin(wrong), noise=noise, **logits)


def first_wrong(output_ids: Sequence[int], scored: TokenScores, noise: float) -> int | None:
    """The first token that lies below its target's best by more than the noise; one whose logits are not numbers
    does."""
    return next((i for i in range(len(output_ids)) if not scored.shortfall(i) <= noise), None)


def _first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Where two outputs first part, which may be the end of the shorter; None where they are equal."""
    if list(ours) == list(theirs):
        return None
    shorter = min(len(ours), len(theirs))
    return next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
