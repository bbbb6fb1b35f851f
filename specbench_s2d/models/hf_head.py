"""The head of transformers' models, replaced: float32 logits for half-precision models, and small vocabularies.

Shapes: see `models/base.py`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.head import head_for, head_logits
from specbench_s2d.models.llama import quantisation

_HALF = (torch.bfloat16, torch.float16)
_Module = TypeVar("_Module", bound=nn.Module)


class Float32Head(nn.Module):
    """A linear head with float32 logits and bias; it shares the weight of `head` on a GPU, and copies it to float32 on
    a CPU."""

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


class CuttableHead(nn.Module):
    """A linear head, of which a pass may use the rows of a small vocabulary alone: `vocabulary` says which, None for
    all."""

    def __init__(self, head: nn.Linear | Float32Head) -> None:
        super().__init__()
        self.head = head
        self.vocabulary: DraftVocabulary | None = None
        self._rows: dict[DraftVocabulary, nn.Module] = {}

    @property
    def weight(self) -> Tensor:
        """The whole head's."""
        return self.head.weight

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Logits (B, T, V), or (B, T, N) of a small vocabulary."""
        head = self.head if self.vocabulary is None else self._cut(self.vocabulary)
        logits_BTX: Tensor = head(hidden_BTD)
        return logits_BTX

    def _cut(self, vocabulary: DraftVocabulary) -> nn.Module:
        """The rows of a vocabulary as a head of its own, copied when first asked for."""
        if vocabulary not in self._rows:
            ids_N, bias_V = vocabulary.ids_on(self.weight.device), self.head.bias
            rows = nn.Linear(self.weight.shape[1], len(vocabulary), bias=bias_V is not None, device="meta")
            rows.weight = nn.Parameter(self.weight.index_select(0, ids_N), requires_grad=False)
            if bias_V is not None:
                rows.bias = nn.Parameter(bias_V.index_select(0, ids_N), requires_grad=False)
            self._rows[vocabulary] = rows if type(self.head) is nn.Linear else Float32Head(rows)
        return self._rows[vocabulary]


def make_cuttable(model: Any) -> CuttableHead | None:
    """Wrap a model's head so that a pass may use some of its rows; None for a head that is not plainly linear, such as
    a quantised one."""
    head = model.get_output_embeddings()
    if type(head) not in (nn.Linear, Float32Head) or type(head.weight) is not nn.Parameter:
        return None
    ours = _with_hooks_of(head, CuttableHead(head))
    model.set_output_embeddings(ours)
    return ours if model.get_output_embeddings() is ours else None


def give_float32_logits(model: Any) -> str | None:
    """Replace the head where logits would be rounded to half precision; returns why it was not replaced, or None.

    Later operations of the model on its logits (scaling, capping) are then in float32 too. The hooks that accelerate
    attaches to the head of a model spread over devices are moved to the new head.
    """
    head = model.get_output_embeddings()
    if model.dtype not in _HALF or getattr(getattr(head, "weight", None), "dtype", None) == torch.float32:
        return None
    plain = type(head) is nn.Linear and head.weight.dtype in _HALF
    if not plain or (quantisation(model.config) and type(head.weight) is not nn.Parameter):
        return f"its head is a {type(head).__name__}, not a plain linear layer"
    ours = _with_hooks_of(head, Float32Head(head))
    model.set_output_embeddings(ours)
    return None if model.get_output_embeddings() is ours else f"the head of {type(model).__name__} cannot be replaced"


def _with_hooks_of(old: nn.Module, new: _Module) -> _Module:
    hook = getattr(old, "_hf_hook", None)
    if hook is None:
        return new
    from accelerate.hooks import add_hook_to_module, remove_hook_from_module

    remove_hook_from_module(old)
    moved: _Module = add_hook_to_module(new, hook)
    return moved
