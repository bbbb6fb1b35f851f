"""The LM (language model) head: float32 logits for half-precision models too, as rounded logits would often tie.

Shapes: see `models/base.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def head_logits(hidden_TD: Tensor, head_DV: Tensor) -> Tensor:
    """Logits (T, V) in float32: products of half-precision numbers are summed in float32 and not rounded afterwards.

    On a CPU, where torch has no product with a wider output dtype, the head itself is float32 (`head_for`).
    """
    if hidden_TD.dtype == head_DV.dtype == torch.float32:
        return torch.mm(hidden_TD, head_DV)
    if hidden_TD.device.type == "cpu":
        return torch.mm(hidden_TD.float(), head_DV.float())
    return torch.mm(hidden_TD, head_DV, out_dtype=torch.float32)


def head_for(head_VD: Tensor) -> Tensor:
    """The head as used by passes: on a CPU in float32, whatever the model's dtype."""
    return head_VD.float() if head_VD.device.type == "cpu" else head_VD
