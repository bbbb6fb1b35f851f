"""Logits that are not finite numbers: how they are found, and what is said of them.

Shapes: `T` positions, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TypeVar

import torch
from torch import Tensor

from specbench_s2d.models.base import LanguageModel

R = TypeVar("R")
NOT_FINITE = "logits are not finite numbers"


def not_finite(logits_TV: Tensor) -> int | None:
    """The first row with not-a-number or +inf in it, or with nothing but -inf; None where there is none.

    A single -inf is no fault: it is how ids are ruled out.
    """
    bad_T = ~logits_TV.amax(-1).isfinite()  # the maximum of a row with not-a-number is not-a-number
    return int(bad_T.nonzero()[0]) if bool(bad_T.any()) else None


@torch.inference_mode()
def first_not_finite(
    model: LanguageModel, prompt_ids: Sequence[int], output_ids: Sequence[int], depth: int | None = None
) -> int | None:
    """The first token of an output, from 0, at which a model's logits are as in `not_finite`, read at `depth` layers,
    by default all of them; None where there is none. The cache is overwritten.

    Found in one pass, in which a faulty position may spoil those before it; so where there is one, position is run
    after position up to it.
    """
    together = teacher_forced(model, prompt_ids, output_ids, not_finite, depth)
    if together is None:
        return None
    to_layer = None if depth == model.depth else depth
    seen = [prompt_ids, *([token] for token in output_ids[:-1])]
    model.reset()
    with model.eagerly():
        for position, ids in zip(count(), seen):
            if not_finite(_logits(model, ids, to_layer, last_only=True)) is not None:
                return position
    return together


def teacher_forced(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    read: Callable[[Tensor], R],
    depth: int | None = None,
) -> R:
    """What `read` makes of the logits (T, V) before each token of an output, all in one pass, down to `depth` layers.

    The cache is overwritten.
    """
    *before, last = prompt_ids
    to_layer = None if depth == model.depth else depth
    model.reset()
    with model.eagerly():
        if before:  # in a pass of their own: their logits are not needed
            _logits(model, before, to_layer, last_only=True)
        return read(_logits(model, [last, *output_ids[:-1]], to_layer).float())


def _logits(model: LanguageModel, ids: Sequence[int], to_layer: int | None, last_only: bool = False) -> Tensor:
    ids_BT = torch.tensor([list(ids)], device=model.device)
    out_BTX = model.extend(ids_BT, to_layer=to_layer, last_only=last_only)
    return (out_BTX if to_layer is None else model.head(out_BTX))[0]


def not_finite_at(model: str, position: int, of: str = "the output") -> str:
    """What is said of a model ("draft NAME") whose logits are not finite at a position, from 0, of a sequence."""
    return f"{model}: {NOT_FINITE}, first at position {position} of {of}"
