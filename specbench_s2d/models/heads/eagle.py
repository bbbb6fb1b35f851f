"""EAGLE's draft head (Li et al. 2024, arXiv 2401.15077): the target's next final state, from its last one and a token.

    f^_{t+1} = layer(W [e(x_{t+1}); f_t] + b)        section 4.1 of the paper; f_t: the target's final state at t
    q(x_{t+2}) = softmax(head(f^_{t+1}))             head: the target's own

Pair t is (x_{t+1}, f_t), and stands at position t of the head's cache. While it drafts, the head's own states stand in
for the target's. Shapes: see `models/base.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.base import Identity
from specbench_s2d.models.engines.base import Request
from specbench_s2d.models.engines.choose import MakeEngine
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.heads.base import DraftHead
from specbench_s2d.models.heads.shape import HeadShape
from specbench_s2d.models.weights import LayerWeights, LlamaWeights, Weights, rotary_tables

_UNUSED_ROWS = 64
"""Rows of the embedding and head that engines want, and that a draft head does not have."""


class EagleHead(DraftHead):
    """The head of EAGLE-1 and EAGLE-2, with a cache of its own layers; embedding and LM head are the target's.

    `head_shape`: what the folder holds.
    """

    def __init__(
        self,
        identity: Identity,
        config: Any,
        shape: HeadShape,
        read: Weights,
        device: torch.device,
        dtype: torch.dtype,
        engine: MakeEngine = EagerEngine,
    ) -> None:
        self.identity, self.head_shape = identity, shape
        self.eos_ids, self.exits = frozenset(), ()
        self.device, self.dtype = device, dtype
        self.vocabulary, self.width, self.depth = config.vocab_size, shape.width, shape.layers
        self.context = config.max_position_embeddings
        self._fc_DX = read("fc.weight")
        self._fc_bias_D = read("fc.bias") if "fc.bias" in shape.shapes else None
        loaded = _layers(config, shape, read, device, dtype)
        self._layer_bytes = loaded.layer_bytes
        bias = 0 if self._fc_bias_D is None else self._fc_bias_D.nbytes
        self._bytes = self._fc_DX.nbytes + bias + shape.layers * loaded.layer_bytes
        self._engine = engine(loaded)
        self._cache, self.torch_threads = self._engine.cache, self._engine.torch_threads

    @property
    def engine(self) -> str:
        return self._engine.name

    @property
    def engine_facts(self) -> dict[str, Any]:
        return {"engine": self.engine, **self._engine.facts()}

    @property
    def length(self) -> int:
        return min(self._cache.lengths)

    @torch.inference_mode()
    def advance(self, embedded_TD: Tensor, states_TD: Tensor, mask: Tensor | None = None) -> Tensor:
        """The states (T, D) predicted of T new pairs: embedded tokens and the states before them; `mask` as in
        `LanguageModel.extend`."""
        start = self._cache.lengths[0]
        joint_TD = F.linear(torch.cat((embedded_TD, states_TD), dim=-1), self._fc_DX, self._fc_bias_D)
        request = Request(joint_TD, start, 0, self.depth, head=False, mask=mask)
        self.check_room(start, request.new)
        self._engine.reserve(request.end)
        predicted_TD = self._engine.run(request)
        self._cache.lengths[:] = [request.end] * self.depth
        self.read_bytes += self._bytes + self.depth * request.end * self._cache.position_bytes
        return predicted_TD

    def reserve(self, length: int) -> None:
        self._engine.reserve(min(length, self.context))

    def rollback(self, length: int) -> None:
        self._cache.rollback(length)

    def keep_path(self, positions: Sequence[int], start: int) -> None:
        self._cache.keep_path(positions, start)

    @property
    def parameter_bytes(self) -> int:
        return self._bytes


def _layers(config: Any, shape: HeadShape, read: Weights, device: torch.device, dtype: torch.dtype) -> LlamaWeights:
    """The head's decoder layers as an engine takes them; the first has no input norm."""
    unused_VD = torch.zeros(_UNUSED_ROWS, shape.width, device=device, dtype=dtype)
    cos_SC, sin_SC = rotary_tables(config, config.max_position_embeddings, device, dtype)
    heads = config.num_attention_heads
    return LlamaWeights(
        width=shape.width,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        head_width=getattr(config, "head_dim", None) or shape.width // heads,
        vocabulary=_UNUSED_ROWS,
        context=config.max_position_embeddings,
        eps=config.rms_norm_eps,
        embedding_VD=unused_VD,
        layers=[_layer(shape, read, index) for index in range(shape.layers)],
        norm_D=torch.ones(shape.width, device=device, dtype=dtype),
        head_VD=unused_VD,
        cos_SC=cos_SC,
        sin_SC=sin_SC,
    )


def _layer(shape: HeadShape, read: Weights, index: int) -> LayerWeights:
    prefix = f"layers.{index}."
    attention, mlp, norm = prefix + "self_attn.", prefix + "mlp.", prefix + "input_layernorm.weight"
    biased = f"{attention}q_proj.bias" in shape.shapes
    return LayerWeights(
        attention_norm_D=read(norm) if norm in shape.shapes else None,
        qkv_AD=torch.cat([read(f"{attention}{part}_proj.weight") for part in "qkv"]),
        qkv_bias_A=torch.cat([read(f"{attention}{part}_proj.bias") for part in "qkv"]) if biased else None,
        q_norm_C=None,
        k_norm_C=None,
        out_DA=read(attention + "o_proj.weight"),
        mlp_norm_D=read(prefix + "post_attention_layernorm.weight"),
        gate_up_FD=torch.cat([read(f"{mlp}{part}_proj.weight") for part in ("gate", "up")]),
        down_DF=read(mlp + "down_proj.weight"),
    )
