"""The LM head of half-precision models gives float32: logits rounded to 8 bits could not tell which of two is larger.

Shapes: see `models/base.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MIXED = ("cuda", "meta")
"""Devices whose product of half-precision matrices can give float32; meta, which keeps sizes alone, stands for them."""


def head_logits(hidden_TD: Tensor, head_DV: Tensor) -> Tensor:
    """Logits (T, V) in float32: products of half-precision numbers are summed in float32, and stay so.

    torch's product with another result's dtype is there on CUDA alone; elsewhere the head itself is float32
    (`head_for`).
    """
    if hidden_TD.dtype == head_DV.dtype == torch.float32:
        return torch.mm(hidden_TD, head_DV)
    if hidden_TD.device.type in _MIXED:
        return torch.mm(hidden_TD, head_DV, out_dtype=torch.float32)
    return torch.mm(hidden_TD.float(), head_DV.float())


def head_for(head_VD: Tensor) -> Tensor:
    """The head as passes use it: on a CPU in float32, whatever the model's dtype."""
    return head_VD if head_VD.device.type in _MIXED else head_VD.float()
