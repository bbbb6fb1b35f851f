"""Medusa's heads (Cai et al. 2024, arXiv 2401.10774): the tokens after the next one, each from one state of the target.

    q_k(x_{t+1+k}) = softmax(W2_k (f_t + SiLU(W1_k f_t + b_k))), k = 1 … K        section 3.1

f_t: the target's final state at t, after its final norm, of which its own LM head gives x_{t+1}. A head may have
several such residual blocks; W2_k is its own, or the target's LM head where the folder has none. Shapes: see
`models/base.py`; `K` heads here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.head import HeadRows, head_for, head_logits
from specbench_s2d.models.heads.base import DraftHead
from specbench_s2d.models.heads.shape import UNBOUNDED, HeadShape
from specbench_s2d.models.weights import Weights


class MedusaHead(DraftHead):
    """All heads of a folder; they keep nothing from one state to the next. `vocabulary`: the target's ids, padding
    included."""

    def __init__(
        self,
        identity: Identity,
        vocabulary: int,
        shape: HeadShape,
        read: Weights,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(identity, shape, device, dtype)
        self.vocabulary, self.width, self.depth = vocabulary, shape.width, max(1, shape.layers)
        self.heads, self.context = shape.heads, UNBOUNDED

        def stacked(block: int, part: str) -> Tensor:
            return torch.stack([read(f"{shape.prefix}{head}.{block}.linear.{part}") for head in range(shape.heads)])

        self._blocks = [(stacked(m, "weight"), stacked(m, "bias")) for m in range(shape.layers)]
        own = range(shape.heads if shape.vocabulary else 0)
        matrices = [head_for(read(f"{shape.prefix}{head}.{shape.layers}.weight")) for head in own]
        self._lm_heads = [HeadRows(matrix_VD) for matrix_VD in matrices]
        blocks = sum(part.nbytes for block in self._blocks for part in block)
        self._block_bytes, self._row_bytes = blocks, sum(matrix_VD[0].nbytes for matrix_VD in matrices)

    @property
    def length(self) -> int:
        return 0

    @torch.inference_mode()
    def logits(
        self, state_1D: Tensor, count: int, target: LanguageModel, vocabulary: DraftVocabulary | None = None
    ) -> Tensor:
        """Logits (count, V) float32 of the first `count` heads, V the target's ids; `vocabulary`: as in
        `LanguageModel.extend`."""
        states_K1D = state_1D.expand(count, 1, -1)
        for weight_KDD, bias_KD in self._blocks:
            linear_K1D = torch.baddbmm(bias_KD[:count, None], states_K1D, weight_KDD[:count].transpose(1, 2))
            states_K1D = states_K1D + F.silu(linear_K1D)
        self.read_bytes += self._block_bytes * count // self.heads
        if not self._lm_heads:
            return target.head(states_K1D.transpose(0, 1), vocabulary, final=True)[0]
        rows = len(vocabulary) if vocabulary else self.vocabulary
        self.read_bytes += rows * self._row_bytes * count // self.heads
        logits_KX = torch.cat([head_logits(states_K1D[k], self._lm_heads[k].of(vocabulary).T) for k in range(count)])
        return vocabulary.spread(logits_KX) if vocabulary else logits_KX[:, : target.vocabulary]

    def rollback(self, length: int) -> None:
        """Nothing is cached."""

    def keep_path(self, positions: Sequence[int], start: int) -> None:
        """Nothing is cached."""

    @property
    def parameter_bytes(self) -> int:
        return self._block_bytes + (self.vocabulary * self._row_bytes if self._lm_heads else 0)
