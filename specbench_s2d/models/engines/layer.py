"""One decoder layer and the head as functions of tensors alone, so that they can be compiled and captured.

Every size but T (rows) and S (the bucket) is fixed. Weights are arguments: what is compiled serves all layers alike.
Shapes: see `models/base.py`; `R` T rows times the query heads that share a key-value head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.head import head_logits
from specbench_s2d.models.weights import LayerWeights, LlamaWeights


@dataclass(frozen=True)
class Sizes:
    """What a layer must know besides its weights."""

    heads: int
    kv_heads: int
    head_width: int
    eps: float
    scale: float

    @classmethod
    def of(cls, weights: LlamaWeights) -> Sizes:
        return cls(weights.heads, weights.kv_heads, weights.head_width, weights.eps, weights.scale)


@dataclass(frozen=True)
class Tables:
    """Rotary tables (S, C) over the whole context, and how many query heads share a key-value head."""

    cos_SC: Tensor
    sin_SC: Tensor
    group: int


@dataclass(frozen=True)
class TreeMask:
    """What rows under a mask see: bool (T, M), of which the first `seen_1` columns and `rows_1` rows are in use; the
    columns end where the pass ends."""

    mask_TM: Tensor
    seen_1: Tensor
    rows_1: Tensor


@dataclass(frozen=True)
class AttentionInputs:
    """Where the rows of a pass stand: cache positions (T,), rotary tables (T, 1, C), additive visibility (R, S)."""

    at_T: Tensor
    cos_T1C: Tensor
    sin_T1C: Tensor
    seen_RS: Tensor


def attention_inputs(
    rows_T: Tensor, start_1: Tensor, cached_S: Tensor, tree: TreeMask | None, tables: Tables
) -> AttentionInputs:
    """Where `rows_T` (0, 1, …) after `start_1` stand, and which of the cache's first positions `cached_S` they see.

    Under a mask a row stands as far on as it sees positions, less one.
    """
    at_T = rows_T + start_1
    if tree is None:
        positions_T, visible_TS = at_T, cached_S <= at_T[:, None]
    else:
        positions_T, visible_TS = _in_tree(rows_T, start_1, cached_S, tree)
    # Rows beyond those asked for may lie beyond the context.
    positions_T = positions_T.clamp(0, tables.cos_SC.shape[0] - 1)
    cos_TC, sin_TC = tables.cos_SC.index_select(0, positions_T), tables.sin_SC.index_select(0, positions_T)
    seen_TS = torch.zeros(visible_TS.shape, device=at_T.device, dtype=cos_TC.dtype)
    seen_TS = seen_TS.masked_fill(~visible_TS, float("-inf"))
    rows, bucket = seen_TS.shape
    seen_RS = seen_TS[:, None].expand(rows, tables.group, bucket).reshape(rows * tables.group, bucket)
    return AttentionInputs(at_T, cos_TC[:, None], sin_TC[:, None], seen_RS)


def _in_tree(rows_T: Tensor, start_1: Tensor, cached_S: Tensor, tree: TreeMask) -> tuple[Tensor, Tensor]:
    """(positions (T,), visible (T, S)) under a mask; a row that is not in use sees all, for one that saw nothing would
    leave no number in the cache."""
    columns = tree.mask_TM.shape[1]
    base_1 = start_1 + tree.rows_1 - tree.seen_1
    used_M = torch.arange(columns, device=rows_T.device) < tree.seen_1
    positions_T = base_1 - 1 + (tree.mask_TM & used_M).sum(1)
    within_S = cached_S - base_1
    masked_TS = tree.mask_TM.index_select(1, within_S.clamp(0, columns - 1))
    visible_TS = (within_S < 0) | (masked_TS & (within_S < tree.seen_1))
    return positions_T, visible_TS | (rows_T[:, None] >= tree.rows_1)


def run_layer(
    hidden_TD: Tensor, place: AttentionInputs, keys_KSC: Tensor, values_KSC: Tensor, layer: LayerWeights, sizes: Sizes
) -> Tensor:
    """Hidden states (T, D) after the layer; its keys and values are written to the cache (the whole of it)."""
    normed_TD = _norm(hidden_TD, layer.attention_norm_D, sizes.eps)
    qkv_TA = F.linear(normed_TD, layer.qkv_AD, layer.qkv_bias_A)
    q_KRC = _rotate_and_store(qkv_TA, place, keys_KSC, values_KSC, layer, sizes)
    bucket = place.seen_RS.shape[1]
    keys_KCS, values_KSC = keys_KSC[:, :bucket].transpose(1, 2), values_KSC[:, :bucket]
    # Scaled first, for a product of float16 may be beyond its range; a plain one, so that compiling fuses the mask.
    scores_KRS = torch.bmm(q_KRC * sizes.scale, keys_KCS) + place.seen_RS
    mixed_KRC = torch.bmm(torch.softmax(scores_KRS, dim=-1), values_KSC)
    hidden_TD = hidden_TD + F.linear(_heads_together(mixed_KRC, sizes), layer.out_DA)
    normed_TD = _norm(hidden_TD, layer.mlp_norm_D, sizes.eps)
    gate_TF, up_TF = F.linear(normed_TD, layer.gate_up_FD).chunk(2, dim=-1)
    return hidden_TD + F.linear(F.silu(gate_TF) * up_TF, layer.down_DF)


def run_head(hidden_TD: Tensor, norm_D: Tensor, head_VD: Tensor, eps: float) -> Tensor:
    """Logits (T, V), float32."""
    return head_logits(_norm(hidden_TD, norm_D, eps), head_VD.t())


def _norm(rows_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    return F.rms_norm(rows_TD, (rows_TD.shape[-1],), weight_D, eps)


def _rotate_and_store(
    qkv_TA: Tensor, place: AttentionInputs, keys_KSC: Tensor, values_KSC: Tensor, layer: LayerWeights, sizes: Sizes
) -> Tensor:
    """Queries, the rows of a group of heads together: (K, R, C)."""
    rows, heads, kv_heads, width = qkv_TA.shape[0], sizes.heads, sizes.kv_heads, sizes.head_width
    q_THC, k_TKC, v_TKC = qkv_TA.view(rows, heads + 2 * kv_heads, width).split((heads, kv_heads, kv_heads), dim=1)
    if layer.q_norm_C is not None and layer.k_norm_C is not None:
        q_THC, k_TKC = _norm(q_THC, layer.q_norm_C, sizes.eps), _norm(k_TKC, layer.k_norm_C, sizes.eps)
    keys_KSC.index_copy_(1, place.at_T, _rotated(k_TKC, place).transpose(0, 1))
    values_KSC.index_copy_(1, place.at_T, v_TKC.transpose(0, 1))
    grouped_TKGC = _rotated(q_THC, place).view(rows, kv_heads, heads // kv_heads, width)
    return grouped_TKGC.transpose(0, 1).reshape(kv_heads, rows * (heads // kv_heads), width)


def _rotated(x_THC: Tensor, place: AttentionInputs) -> Tensor:
    """x * cos + swap(x) * sin: the sine table carries the sign of the first half."""
    return x_THC * place.cos_T1C + x_THC.roll(x_THC.shape[-1] // 2, -1) * place.sin_T1C


def _heads_together(mixed_KRC: Tensor, sizes: Sizes) -> Tensor:
    """(K, R, C) to (T, H * C)."""
    group = sizes.heads // sizes.kv_heads
    mixed_KTGC = mixed_KRC.view(sizes.kv_heads, -1, group, sizes.head_width)
    return mixed_KTGC.transpose(0, 1).reshape(-1, sizes.heads * sizes.head_width)


class PassFunctions(NamedTuple):
    """The three functions of a pass, as they are or compiled."""

    attention_inputs: Callable[[Tensor, Tensor, Tensor, TreeMask | None, Tables], AttentionInputs]
    run_layer: Callable[[Tensor, AttentionInputs, Tensor, Tensor, LayerWeights, Sizes], Tensor]
    run_head: Callable[[Tensor, Tensor, Tensor, float], Tensor]


PLAIN = PassFunctions(attention_inputs, run_layer, run_head)
"""As torch calls, one by one."""
