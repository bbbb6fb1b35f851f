"""The head of a transformers model of half precision, exchanged for one that gives float32 logits.

Shapes: see `models/base.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from specbench_s2d.models.head import head_for, head_logits
from specbench_s2d.models.llama import quantisation

_HALF = (torch.bfloat16, torch.float16)


class Float32Head(nn.Module):
    """A linear head whose logits are float32, its bias too: on a GPU over the very weight of `head`, on a CPU over a
    float32 copy of it."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        kept_VD = head_for(head.weight)
        self.weight = head.weight if kept_VD is head.weight else nn.Parameter(kept_VD.detach(), requires_grad=False)
        self.bias = head.bias

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        logits_NV = head_logits(hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), self.weight.t())
        if self.bias is not None:
            logits_NV = logits_NV + self.bias.float()
        return logits_NV.view(*hidden_BTD.shape[:-1], -1)


def give_float32_logits(model: Any) -> str | None:
    """Exchange the head where logits would be rounded to the model's half precision; why it was left, or None.

    What the model does to its logits afterwards (scaling, capping) it then does in float32. Hooks that accelerate hung
    on the head of a model that is spread over devices go over to the new one.
    """
    head = model.get_output_embeddings()
    if model.dtype not in _HALF or getattr(getattr(head, "weight", None), "dtype", None) == torch.float32:
        return None
    plain = type(head) is nn.Linear and head.weight.dtype in _HALF
    if not plain or (quantisation(model.config) and type(head.weight) is not nn.Parameter):
        return f"its head is {type(head).__name__}, which computes in its own way"
    ours = _with_hooks_of(head, Float32Head(head))
    model.set_output_embeddings(ours)
    return None if model.get_output_embeddings() is ours else f"{type(model).__name__} lets its head not be exchanged"


def _with_hooks_of(old: nn.Module, new: nn.Module) -> nn.Module:
    hook = getattr(old, "_hf_hook", None)
    if hook is None:
        return new
    from accelerate.hooks import add_hook_to_module, remove_hook_from_module

    remove_hook_from_module(old)
    moved: nn.Module = add_hook_to_module(new, hook)
    return moved
