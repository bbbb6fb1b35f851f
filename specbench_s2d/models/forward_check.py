"""The lean forward held to transformers' own: a few passes of both over the same files, when a model is loaded.

Ours runs as decoders run it, through its cache: a prefill of 8 positions, 4 passes of one, and a tree of 4 nodes under
a mask. transformers runs both paths of that tree as plain sequences, in one pass without a cache. Shapes: see
`models/base.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError, in_one_line
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.resolve import ResolvedModel
from specbench_s2d.models.tensors import parameters
from specbench_s2d.models.transfer import to_device

UNASKED_PARAMETERS = 50_000_000
"""Models of up to so many parameters are checked at every load: some tenths of a second, and 0.2 GB in float32."""

_PREFILL, _SINGLE, _TREE = 8, 4, (-1, -1, 0, 1)  # of the tree, the parents
POSITIONS = _PREFILL + _SINGLE + len(_TREE)
_BEFORE, _ROWS = _PREFILL + _SINGLE, 2  # positions before the tree; its paths, as rows of one batch
_FLOOR = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}  # docs/notes.md has what was measured
_SPREADS, _MOST = 4, 0.5  # or so many times what transformers' own passes differ by, but at most a half

MakeReference = Callable[[], Any]


def is_checked(model: ResolvedModel, asked: bool | None) -> bool:
    """Whether a lean model with weights of its own is checked at load: where `asked`; by default, up to
    `UNASKED_PARAMETERS`."""
    if not model.has_layer_ranges or model.shape or asked is False:
        return False
    return bool(asked) or parameters(model.config) <= UNASKED_PARAMETERS


def check_forward(ours: LanguageModel, make_reference: MakeReference, asked: bool) -> dict[str, Any]:
    """Compare logits with transformers' own model, which `make_reference` loads; returns facts for the manifest.

    Differences are over the largest of transformers' logits. Raises `ModelError` beyond the bound, and, where the check
    was `asked` for, if it cannot be made. A model whose logits are not finite numbers in transformers either is not
    judged here. Our cache is empty afterwards.
    """
    try:
        facts = _compared(ours, make_reference)
    except Exception as error:  # no room for a second copy, a package that lacks, a model that transformers cannot run
        reason = f"transformers' own forward does not run here ({in_one_line(error, 200, kind=True)})"
        if asked:
            raise ModelError(f"{ours.name} --verify-forward: {reason}; leave the flag out.") from error
        return not_checked(reason)
    difference, bound = facts.get("largest_difference"), facts.get("bound")
    if difference is not None and bound is not None and not difference <= bound:
        raise ModelError(
            f"{ours.name}: the lean forward's logits differ from transformers' own by {difference:.2g} of the largest, "
            f"and {bound:.2g} is allowed as rounding: it does not compute this checkpoint. Report it with the model's "
            "config.json; in Python, load_model(…, lean=False) runs transformers' forward."
        )
    return facts


def not_checked(reason: str) -> dict[str, Any]:
    """The facts of a model that was not checked."""
    return {"checked": False, "reason": reason}


@torch.inference_mode()
def _compared(ours: LanguageModel, make_reference: MakeReference) -> dict[str, Any]:
    ids = [(7 + 131 * i) % ours.vocabulary for i in range(POSITIONS)]
    if ours.context < POSITIONS:
        return not_checked(f"its context holds fewer than {POSITIONS} positions")
    expected_TV, spread = _reference_logits(make_reference(), ids, ours)
    if not bool(expected_TV.isfinite().all()):
        return not_checked("logits of transformers' own forward are not finite numbers")
    logits_TV, largest = _our_logits(ours, ids), float(expected_TV.abs().max())
    difference = float((logits_TV - expected_TV).abs().max()) / largest if largest else 0.0
    return {
        "checked": True,
        "positions": POSITIONS,
        "largest_difference": difference,
        "bound": min(_MOST, max(_FLOOR[ours.dtype], _SPREADS * spread)),
        "argmax_agreement": float((logits_TV.argmax(-1) == expected_TV.argmax(-1)).float().mean()),
    }


def _our_logits(ours: LanguageModel, ids: list[int]) -> Tensor:
    """(T, V), in passes as decoders ask for them."""
    ids_BT = to_device([ids], ours.device)
    parts = ids_BT.split((_PREFILL, *[1] * _SINGLE, len(_TREE)), dim=1)
    ours.reset()
    with ours.eagerly():
        logits = [ours.extend(part)[0] for part in parts[:-1]]
        logits.append(ours.extend(parts[-1], mask=to_device(_tree_mask(), ours.device))[0])
    ours.reset()
    ours.read_bytes = 0
    return torch.cat(logits)


def _tree_mask() -> Tensor:
    """bool (4, 4): a node sees its ancestors and itself."""
    mask_TT = torch.eye(len(_TREE), dtype=torch.bool)
    for node, parent in enumerate(_TREE):
        if parent >= 0:
            mask_TT[node] |= mask_TT[parent]
    return mask_TT


def _reference_logits(reference: Any, ids: list[int], ours: LanguageModel) -> tuple[Tensor, float]:
    """transformers' logits (T, V) of the same positions, and by how much the logits of two of its own passes differ."""
    before, tree = ids[:_BEFORE], ids[_BEFORE:]
    paths_BT = to_device([[*before, tree[0], tree[2]], [*before, tree[1], tree[3]]], ours.device)
    logits_BTV = reference(input_ids=paths_BT, use_cache=False).logits.float()[..., : ours.vocabulary]
    short_TV = reference(input_ids=paths_BT[:1, :_PREFILL], use_cache=False).logits[0].float()[:, : ours.vocabulary]
    nodes_TV = logits_BTV[:, _BEFORE:].transpose(0, 1).flatten(0, 1)  # level by level
    logits_TV = torch.cat((logits_BTV[0, :_BEFORE], nodes_TV))
    largest = float(logits_TV.abs().max())
    return logits_TV, float((short_TV - logits_TV[:_PREFILL]).abs().max()) / largest if largest else 0.0
