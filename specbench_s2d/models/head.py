"""The LM (language model) head: float32 logits for half-precision models too, as rounded logits would often tie.

Shapes: see `models/base.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specbench_s2d.models.draft_vocabulary import DraftVocabulary


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


class HeadRows:
    """The head of a model, (V, D), and of each small vocabulary its rows (N, D), copied when first asked for.

    `ids`: those of all its rows, where the head is of a small vocabulary alone.
    """

    def __init__(self, head_VD: Tensor, ids: DraftVocabulary | None = None) -> None:
        self._full_VD = head_VD
        self._rows: dict[DraftVocabulary, Tensor] = {} if ids is None else {ids: head_VD}

    def of(self, vocabulary: DraftVocabulary | None) -> Tensor:
        """The rows of a vocabulary; all of them for None."""
        if vocabulary is None:
            return self._full_VD
        if vocabulary not in self._rows:
            with torch.inference_mode(False), torch.no_grad():
                ids_N = vocabulary.ids_on(self._full_VD.device)
                self._rows[vocabulary] = self._full_VD.index_select(0, ids_N)
        return self._rows[vocabulary]
