"""EAGLE-3's draft head (Li et al. 2025, arXiv 2503.01840): tokens from the states of three of the target's layers.

    g_t = W [l_t; m_t; h_t]                                    states that enter a low, a middle and a high layer
    a_t = g_t + attention([norm_e(e(x_{t+1})); norm_h(g_t)])   queries, keys and values are read from 2 D numbers
    s_t = a_t + mlp(norm_a(a_t))
    q(x_{t+2}) = softmax(head(norm(s_t)))                      the head's own, over a small vocabulary

Pair t is (x_{t+1}, g_t), and stands at position t of the head's cache. While it drafts, s_t (before its norm) stands in
for g_{t+1}, which is not known. Shapes: see `models/base.py`; `N` ids of the small vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.base import Identity, LanguageModel, Likeliest, PassKind
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.layer import Sizes, Tables, TreeMask, attention_inputs, run_layer
from specbench_s2d.models.head import head_for, head_logits
from specbench_s2d.models.heads.base import DraftHead
from specbench_s2d.models.heads.eagle import EagleHead
from specbench_s2d.models.heads.eagle3_shape import NORMS, Eagle3Shape
from specbench_s2d.models.tensors import head_width, kv_heads
from specbench_s2d.models.weights import LayerWeights, Weights, rotary_tables

_PAIRS_AT_ONCE = 256
"""Of a prompt: scores of all of a long one would take memory by its square."""


class Eagle3Head(EagleHead):
    """The head of EAGLE-3, with a cache of its own layer; it runs eagerly, and the embedding may be the target's."""

    head_shape: Eagle3Shape

    def __init__(
        self,
        identity: Identity,
        config: Any,
        shape: Eagle3Shape,
        read: Weights,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        DraftHead.__init__(self, identity, shape, device, dtype)  # it holds none of EAGLE-1's tensors
        self.vocabulary, self.width, self.depth = config.vocab_size, shape.own_width, 1
        self.context, self.own_ids = config.max_position_embeddings, tuple(sorted(shape.ids))
        heads, keys, width_c = config.num_attention_heads, kv_heads(config), head_width(config)
        self._sizes = Sizes(heads, keys, width_c, config.rms_norm_eps, scale=width_c**-0.5)
        self._target = None
        self._fc_DX = read("fc.weight")
        self._layer = _layer(shape, read)
        self._embedding_norm_D, self._state_norm_D = (read(f"{shape.layer}{norm}.weight") for norm in NORMS[:2])
        self._norm_D = read("norm.weight")
        ascending_N = torch.tensor(shape.ids, device=device).argsort()  # the rows in the order of the target's ids
        self._head_ND = head_for(read("lm_head.weight")[ascending_N])
        self._embedding_VD = read("embed_tokens.weight") if shape.has_embedding else None
        self._tables = Tables(*rotary_tables(config, self.context, device, dtype), group=heads // keys)
        self._cache = KVCache(1, keys, width_c, self.context, device, dtype)
        self._layer_bytes = _bytes(*vars(self._layer).values(), self._embedding_norm_D, self._state_norm_D)
        self._head_bytes = _bytes(self._norm_D, self._head_ND)
        self._bytes = self._layer_bytes + self._head_bytes + _bytes(self._fc_DX, self._embedding_VD)

    def attach(self, target: LanguageModel) -> None:
        """Use this target's embedding, unless the head has its own; the cache is emptied where the target changes."""
        if target is not self._target:
            self._target = target
            self.reset()

    @property
    def engine(self) -> str:
        return "eager"

    @property
    def engine_facts(self) -> dict[str, Any]:
        return {"engine": self.engine}

    def prepare(self, kinds: Iterable[PassKind]) -> None:
        """Nothing: its passes run eagerly."""

    def eagerly(self) -> AbstractContextManager[None]:
        return nullcontext()

    @torch.inference_mode()
    def reserve(self, length: int) -> None:
        self._cache.reserve(min(length, self.context))

    @torch.inference_mode()
    def fuse(self, states: Sequence[Tensor]) -> Tensor:
        """g (T, D) of the states (T, E) of the three layers."""
        self.read_bytes += self._fc_DX.nbytes
        return F.linear(torch.cat(tuple(states), dim=-1), self._fc_DX)

    @torch.inference_mode()
    def advance(self, ids_T: Tensor, states_TD: Tensor) -> Tensor:
        parts = zip(ids_T.split(_PAIRS_AT_ONCE), states_TD.split(_PAIRS_AT_ONCE), strict=True)
        return torch.cat([self._run(*part, None) for part in parts])

    @torch.inference_mode()
    def predict(
        self,
        ids_T: Tensor,
        states_TD: Tensor,
        mask: Tensor | None = None,
        rows: int = 1,
        best: int = 1,
        vocabulary: DraftVocabulary | None = None,
    ) -> tuple[Tensor, Likeliest]:
        predicted_TD = self._run(ids_T, states_TD, mask)
        return predicted_TD, Likeliest.of(self.logits(predicted_TD[-rows:], vocabulary), best)

    def _embed(self, ids_T: Tensor) -> Tensor:
        if self._embedding_VD is not None:
            return F.embedding(ids_T, self._embedding_VD)
        assert self._target is not None, "attach(target) comes first"
        return self._target.embed(ids_T)

    def _run(self, ids_T: Tensor, states_TD: Tensor, mask: Tensor | None) -> Tensor:
        embedded_TD, start, new = self._embed(ids_T), self._cache.lengths[0], len(states_TD)
        self.check_room(start, new)
        self._cache.reserve(start + new)
        eps, device = self._sizes.eps, states_TD.device
        attended_TX = torch.cat(
            (
                F.rms_norm(embedded_TD, self._embedding_norm_D.shape, self._embedding_norm_D, eps),
                F.rms_norm(states_TD, self._state_norm_D.shape, self._state_norm_D, eps),
            ),
            dim=-1,
        )
        rows_T, cached_S = torch.arange(new, device=device), torch.arange(start + new, device=device)
        start_1 = torch.full((1,), start, device=device)
        tree = None
        if mask is not None:
            tree = TreeMask(mask, *(torch.full((1,), size, device=device) for size in (mask.shape[1], new)))
        inputs = attention_inputs(rows_T, start_1, cached_S, tree, self._tables)
        states_TD = run_layer(states_TD, inputs, *self._cache.layers[0], self._layer, self._sizes, attended_TX)
        self._cache.lengths[0] = start + new
        self.read_bytes += self._layer_bytes + (start + new) * self._cache.position_bytes
        return states_TD

    @torch.inference_mode()
    def logits(self, states_TD: Tensor, vocabulary: DraftVocabulary | None = None) -> Tensor:
        """Over the target's ids, -inf for those that `vocabulary`, the ids of `own_ids` that the target has, lacks."""
        assert vocabulary is not None, "it has ids of its own"
        self.read_bytes += self._head_bytes
        normed_TD = F.rms_norm(states_TD, self._norm_D.shape, self._norm_D, self._sizes.eps)
        return vocabulary.spread(head_logits(normed_TD, self._head_ND.t())[:, : len(vocabulary)])


def _bytes(*parts: Tensor | None) -> int:
    return sum(part.nbytes for part in parts if part is not None)


def _layer(shape: Eagle3Shape, read: Weights) -> LayerWeights:
    attention, mlp = f"{shape.layer}self_attn.", f"{shape.layer}mlp."
    return LayerWeights(
        attention_norm_D=None,
        qkv_AD=torch.cat([read(f"{attention}{part}_proj.weight") for part in "qkv"]),
        qkv_bias_A=None,
        q_norm_C=None,
        k_norm_C=None,
        out_DA=read(f"{attention}o_proj.weight"),
        mlp_norm_D=read(f"{shape.layer}{NORMS[2]}.weight"),
        gate_up_FD=torch.cat([read(f"{mlp}{part}_proj.weight") for part in ("gate", "up")]),
        down_DF=read(f"{mlp}down_proj.weight"),
    )
