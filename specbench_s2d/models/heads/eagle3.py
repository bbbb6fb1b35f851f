"""EAGLE-3's draft head (Li et al. 2025, arXiv 2503.01840): tokens from the states of three of the target's layers.

    g_t = W [l_t; m_t; h_t]                                    states that enter a low, a middle and a high layer
    a_t = g_t + attention([norm_e(e(x_{t+1})); norm_h(g_t)])   queries, keys and values are read from 2 D numbers
    s_t = a_t + mlp(norm_a(a_t))
    q(x_{t+2}) = softmax(head(norm(s_t)))                      the head's own, over a small vocabulary

Pair t is (x_{t+1}, g_t), and stands at position t of the head's cache. While it drafts, s_t (before its norm) stands in
for g_{t+1}, which is not known. Shapes: see `models/base.py`; `N` ids of the small vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.head import head_for
from specbench_s2d.models.heads.eagle import EagleHead, layer_of, weights_of
from specbench_s2d.models.heads.eagle3_shape import EMBEDDING, NORMS, Eagle3Shape
from specbench_s2d.models.weights import LlamaWeights, Weights


class Eagle3Head(EagleHead):
    """The head of EAGLE-3, which has an LM head of its own; the embedding may be the target's."""

    head_shape: Eagle3Shape

    def _load(self, config: Any, read: Weights) -> LlamaWeights:
        shape, self._fc_DX = self.head_shape, read("fc.weight")
        ascending_N = torch.tensor(shape.ids, device=self.device).argsort()  # the rows in the order of the target's ids
        embedding_norm_D, state_norm_D = (read(f"{shape.layer}{norm}.weight") for norm in NORMS[:2])
        return weights_of(
            config,
            [layer_of(shape.layer, read, shape.shapes)],
            embedding_norm_D=embedding_norm_D,
            state_norm_D=state_norm_D,
            norm_D=read("norm.weight"),
            head_VD=head_for(read("lm_head.weight")[ascending_N]),
            vocabulary=len(shape.ids),
            ids=DraftVocabulary.of(shape.ids, config.vocab_size),
            **({"embedding_VD": read(EMBEDDING)} if shape.has_embedding else {}),
        )

    @torch.inference_mode()
    def fuse(self, states: Sequence[Tensor]) -> Tensor:
        """g (T, D) of the states (T, E) of the three layers."""
        self.read_bytes += self._fc_DX.nbytes
        return F.linear(torch.cat(tuple(states), dim=-1), self._fc_DX)

    @property
    def parameter_bytes(self) -> int:
        return super().parameter_bytes + self._fc_DX.nbytes
