"""The divergence audit: a lossless greedy output is AR's, parts from it at a near-tie, or is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Divergence(BaseModel):
    """How a lossless greedy output compares with AR's.

    `position`: the new token, from 0, where the two first part; `margin`: the gap of AR's two best logits there.
    """

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["identical", "near_tie", "mismatch"]
    position: int | None = None
    margin: float | None = None


def classify(
    output_ids: Sequence[int], baseline_ids: Sequence[int], margins: Sequence[float], noise: float
) -> Divergence:
    """Class an output against AR's; `margins`: AR's gap of the two best logits at each of its tokens.

    Near-tie: the gap where they part is below `noise`, the bound of `measure.scoring.logit_noise`. Of two outputs of
    which one begins with the other, the longer parts at the shorter's end, without a margin: a mismatch.
    """
    if list(output_ids) == list(baseline_ids):
        return Divergence(verdict="identical")
    shorter = min(len(output_ids), len(baseline_ids))
    position = next((i for i in range(shorter) if output_ids[i] != baseline_ids[i]), shorter)
    # Where one is the other's beginning, no tie made them part: equal tokens end alike.
    margin = margins[position] if position < shorter else None
    near = margin is not None and margin < noise
    return Divergence(verdict="near_tie" if near else "mismatch", position=position, margin=margin)
