"""The weights of a Llama-family checkpoint, as the engines take them.

Shapes: see `models/base.py`; `F` feed-forward width. Matrices are (out, in), as in checkpoints and `F.linear`; query,
key and value are concatenated to one matrix, gate and up to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.head import head_for
from specbench_s2d.models.tensors import head_width, tensor_shapes

Weights = Callable[[str], Tensor]
"""Reads a tensor of a checkpoint by its name, onto the device and in the dtype."""


@dataclass(frozen=True)
class LayerWeights:
    """One layer; A = (H + 2 K) * C outputs of query, key and value; biases and norms are None where there are none."""

    attention_norm_D: Tensor | None
    qkv_AD: Tensor
    qkv_bias_A: Tensor | None
    q_norm_C: Tensor | None
    k_norm_C: Tensor | None
    out_DA: Tensor
    mlp_norm_D: Tensor
    gate_up_FD: Tensor
    down_DF: Tensor


@dataclass(frozen=True)
class LlamaWeights:
    """A model: sizes, layers, embedding, head and rotary tables.

    The head is as passes use it: the embedding itself where they are tied, unless it must be a float32 copy.
    `vocabulary`: V, the ids that logits are given of; rows of the head beyond them are padding. A draft head may have
    no final norm, and no rows of an embedding or an LM head, which are its target's then; `ids`: of its own LM head's
    rows. Embeddings and states enter its first layer through `fc_DX` (D, 2 D) and its bias, or normed by two norms.
    """

    width: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    context: int
    eps: float
    embedding_VD: Tensor
    layers: list[LayerWeights]
    norm_D: Tensor | None
    head_VD: Tensor
    cos_SC: Tensor
    sin_SC: Tensor
    fc_DX: Tensor | None = None
    fc_bias_D: Tensor | None = None
    embedding_norm_D: Tensor | None = None
    state_norm_D: Tensor | None = None
    ids: DraftVocabulary | None = None

    @property
    def reads_states(self) -> bool:
        """Whether they are a draft head's."""
        return self.fc_DX is not None or self.state_norm_D is not None

    def joined(self, embedded_TD: Tensor, states_TD: Tensor) -> tuple[Tensor, Tensor | None]:
        """What enters a draft head's first layer: fc of embeddings and states (T, D); or the states, and what queries,
        keys and values are computed of in their place, both normed (T, 2 D)."""
        if self.fc_DX is not None:
            return F.linear(torch.cat((embedded_TD, states_TD), dim=-1), self.fc_DX, self.fc_bias_D), None
        assert self.embedding_norm_D is not None and self.state_norm_D is not None, "a model reads no states"
        pairs = (embedded_TD, self.embedding_norm_D), (states_TD, self.state_norm_D)
        return states_TD, torch.cat(
            [F.rms_norm(rows_TD, norm_D.shape, norm_D, self.eps) for rows_TD, norm_D in pairs], -1
        )

    def beside(self, target: LlamaWeights) -> LlamaWeights:
        """A draft head's weights with its target's embedding and LM head where it has none."""
        embedding_VD = self.embedding_VD if len(self.embedding_VD) else target.embedding_VD
        if self.ids is not None:
            return replace(self, embedding_VD=embedding_VD)
        return replace(self, embedding_VD=embedding_VD, head_VD=target.head_VD, vocabulary=target.vocabulary)

    def below(self, vocabulary: int) -> LlamaWeights:
        """A draft head's weights without the rows of its own LM head whose ids are not below `vocabulary`."""
        if self.ids is None:
            return self
        ids = self.ids.below(vocabulary)
        return replace(self, ids=ids, head_VD=self.head_VD[: len(ids)], vocabulary=len(ids))

    @property
    def scale(self) -> float:
        """The factor on attention scores: 1 / sqrt(C)."""
        return float(self.head_width**-0.5)

    @property
    def layer_bytes(self) -> int:
        return _bytes(vars(self.layers[0]).values())

    @property
    def head_bytes(self) -> int:
        """Bytes of final norm and head."""
        return _bytes((self.norm_D, self.head_VD))

    @property
    def total_bytes(self) -> int:
        """Bytes of all weights, a tied embedding counted once; rotary tables are left out."""
        tied = self.head_VD is self.embedding_VD
        embedding = 0 if tied else self.embedding_VD.nbytes
        joined = _bytes((self.fc_DX, self.fc_bias_D, self.embedding_norm_D, self.state_norm_D))
        return embedding + joined + self.head_bytes + len(self.layers) * self.layer_bytes


def load_weights(
    weights: Weights,
    name: str,
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
    vocabulary: int | None = None,
) -> LlamaWeights:
    """All weights of a checkpoint; `vocabulary`: V, by default all rows of the head.

    Raises `ModelError` for a tensor whose shape is not the config's.
    """
    read = _checked_shapes(weights, name, config)
    embedding_VD = read("model.embed_tokens.weight")
    cos_SC, sin_SC = rotary_tables(config, config.max_position_embeddings, device, dtype)
    return LlamaWeights(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_width=head_width(config),
        vocabulary=vocabulary or config.vocab_size,
        context=config.max_position_embeddings,
        eps=config.rms_norm_eps,
        embedding_VD=embedding_VD,
        layers=[_load_layer(read, index, config.model_type) for index in range(config.num_hidden_layers)],
        norm_D=read("model.norm.weight"),
        head_VD=head_for(embedding_VD if config.tie_word_embeddings else read("lm_head.weight")),
        cos_SC=cos_SC,
        sin_SC=sin_SC,
    )


def _bytes(parts: Iterable[Tensor | None]) -> int:
    return sum(part.nbytes for part in parts if part is not None)


def _checked_shapes(weights: Weights, name: str, config: Any) -> Weights:
    """`weights` with a check of shapes: `ModelError` for a tensor whose shape is not the config's."""
    shapes = tensor_shapes(config)

    def read(tensor_name: str) -> Tensor:
        tensor, expected = weights(tensor_name), shapes[tensor_name]
        if tuple(tensor.shape) != expected:
            raise ModelError(
                f"{name}: {tensor_name!r} is {tuple(tensor.shape)}, and by the config it is {expected}; "
                "this is not the checkpoint its config describes."
            )
        return tensor

    return read


def _load_layer(read: Weights, index: int, model_type: str) -> LayerWeights:
    prefix = f"model.layers.{index}."
    attention, mlp = prefix + "self_attn.", prefix + "mlp."
    biased, normed = model_type == "qwen2", model_type == "qwen3"
    return LayerWeights(
        attention_norm_D=read(prefix + "input_layernorm.weight"),
        qkv_AD=torch.cat([read(f"{attention}{part}_proj.weight") for part in "qkv"]),
        qkv_bias_A=torch.cat([read(f"{attention}{part}_proj.bias") for part in "qkv"]) if biased else None,
        q_norm_C=read(attention + "q_norm.weight") if normed else None,
        k_norm_C=read(attention + "k_norm.weight") if normed else None,
        out_DA=read(attention + "o_proj.weight"),
        mlp_norm_D=read(prefix + "post_attention_layernorm.weight"),
        gate_up_FD=torch.cat([read(f"{mlp}{part}_proj.weight") for part in ("gate", "up")]),
        down_DF=read(mlp + "down_proj.weight"),
    )


def rotary_tables(config: Any, length: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and signed sin, (S, C) each, from the checkpoint's own frequencies (transformers' rope functions)."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rotary = LlamaRotaryEmbedding(config=config)
    angles_SF = torch.outer(torch.arange(length, dtype=torch.float32), rotary.inv_freq.float().cpu())
    scaling = float(rotary.attention_scaling)
    cos_SF, sin_SF = angles_SF.cos() * scaling, angles_SF.sin() * scaling
    cos_SC, sin_SC = torch.cat((cos_SF, cos_SF), -1), torch.cat((-sin_SF, sin_SF), -1)
    return cos_SC.to(device, dtype), sin_SC.to(device, dtype)
