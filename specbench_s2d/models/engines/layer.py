"""One decoder layer and the head as pure functions of tensors, which can be compiled and captured.

Every size except T (rows) and S (the length bucket) is fixed. Weights are arguments, so one compiled function serves
all layers. Shapes: see `models/base.py`; `R`: T rows times the query heads of a key-value head.
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
    """The constants of a layer."""

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
    """Rotary tables (S, C) of the whole context, and the number of query heads per key-value head (`group`)."""

    cos_SC: Tensor
    sin_SC: Tensor
    group: int


@dataclass(frozen=True)
class TreeMask:
    """A tree's attention mask, bool (T, M): the first `rows_1` rows and `seen_1` columns are in use; the last column in
    use is the last position of the pass."""

    mask_TM: Tensor
    seen_1: Tensor
    rows_1: Tensor


@dataclass(frozen=True)
class AttentionInputs:
    """What attention needs of a pass's rows: cache slots (T,), rotary tables (T, 1, C), additive mask (R, S)."""

    slots_T: Tensor
    cos_T1C: Tensor
    sin_T1C: Tensor
    mask_RS: Tensor


def attention_inputs(
    rows_T: Tensor, start_1: Tensor, cached_S: Tensor, tree: TreeMask | None, tables: Tables
) -> AttentionInputs:
    """The attention inputs of `rows_T` (0, 1, …) from slot `start_1` on, over the cache's first slots `cached_S`.

    Under a mask, the position of a row in its sequence is the number of positions that it sees, less one.
    """
    slots_T = rows_T + start_1
    if tree is None:
        positions_T, visible_TS = slots_T, cached_S <= slots_T[:, None]
    else:
        positions_T, visible_TS = _in_tree(rows_T, start_1, cached_S, tree)
    # Padding rows may lie beyond the context.
    positions_T = positions_T.clamp(0, tables.cos_SC.shape[0] - 1)
    cos_TC, sin_TC = tables.cos_SC.index_select(0, positions_T), tables.sin_SC.index_select(0, positions_T)
    mask_TS = torch.zeros(visible_TS.shape, device=slots_T.device, dtype=cos_TC.dtype)
    mask_TS = mask_TS.masked_fill(~visible_TS, float("-inf"))
    rows, bucket = mask_TS.shape
    mask_RS = mask_TS[:, None].expand(rows, tables.group, bucket).reshape(rows * tables.group, bucket)
    return AttentionInputs(slots_T, cos_TC[:, None], sin_TC[:, None], mask_RS)


def _in_tree(rows_T: Tensor, start_1: Tensor, cached_S: Tensor, tree: TreeMask) -> tuple[Tensor, Tensor]:
    """(positions (T,), visible (T, S)) under a mask. Padding rows see everything: a row that saw nothing would write
    not-a-number to the cache."""
    columns = tree.mask_TM.shape[1]
    base_1 = start_1 + tree.rows_1 - tree.seen_1
    used_M = torch.arange(columns, device=rows_T.device) < tree.seen_1
    positions_T = base_1 - 1 + (tree.mask_TM & used_M).sum(1)
    within_S = cached_S - base_1
    masked_TS = tree.mask_TM.index_select(1, within_S.clamp(0, columns - 1))
    visible_TS = (within_S < 0) | (masked_TS & (within_S < tree.seen_1))
    return positions_T, visible_TS | (rows_T[:, None] >= tree.rows_1)


def run_layer(
    hidden_TD: Tensor,
    inputs: AttentionInputs,
    keys_KSC: Tensor,
    values_KSC: Tensor,
    layer: LayerWeights,
    sizes: Sizes,
    attended_TX: Tensor | None = None,
) -> Tensor:
    """Hidden states (T, D) after the layer; writes the rows' keys and values to the cache `keys_KSC`, `values_KSC`.

    `attended_TX`: what queries, keys and values are computed of, by default the normed hidden states.
    """
    if attended_TX is None:
        norm_D = layer.attention_norm_D
        attended_TX = hidden_TD if norm_D is None else _norm(hidden_TD, norm_D, sizes.eps)
    qkv_TA = F.linear(attended_TX, layer.qkv_AD, layer.qkv_bias_A)
    q_KRC = _rotate_and_store(qkv_TA, inputs, keys_KSC, values_KSC, layer, sizes)
    bucket = inputs.mask_RS.shape[1]
    keys_KCS, values_KSC = keys_KSC[:, :bucket].transpose(1, 2), values_KSC[:, :bucket]
    # Scaled first, as products of float16 may overflow; a separate addition, which the compiler fuses with the mask.
    scores_KRS = torch.bmm(q_KRC * sizes.scale, keys_KCS) + inputs.mask_RS
    mixed_KRC = torch.bmm(torch.softmax(scores_KRS, dim=-1), values_KSC)
    hidden_TD = hidden_TD + F.linear(_heads_together(mixed_KRC, sizes), layer.out_DA)
    normed_TD = _norm(hidden_TD, layer.mlp_norm_D, sizes.eps)
    gate_TF, up_TF = F.linear(normed_TD, layer.gate_up_FD).chunk(2, dim=-1)
    return hidden_TD + F.linear(F.silu(gate_TF) * up_TF, layer.down_DF)


def run_head(hidden_TD: Tensor, norm_D: Tensor | None, head_VD: Tensor, eps: float) -> Tensor:
    """Logits (T, V), float32; a draft head may have no final norm."""
    return head_logits(hidden_TD if norm_D is None else _norm(hidden_TD, norm_D, eps), head_VD.t())


def _norm(rows_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    return F.rms_norm(rows_TD, (rows_TD.shape[-1],), weight_D, eps)


def _rotate_and_store(
    qkv_TA: Tensor, inputs: AttentionInputs, keys_KSC: Tensor, values_KSC: Tensor, layer: LayerWeights, sizes: Sizes
) -> Tensor:
    """Write keys and values to the cache; returns the rotated queries (K, R, C), grouped by key-value head."""
    rows, heads, kv_heads, width = qkv_TA.shape[0], sizes.heads, sizes.kv_heads, sizes.head_width
    q_THC, k_TKC, v_TKC = qkv_TA.view(rows, heads + 2 * kv_heads, width).split((heads, kv_heads, kv_heads), dim=1)
    if layer.q_norm_C is not None and layer.k_norm_C is not None:
        q_THC, k_TKC = _norm(q_THC, layer.q_norm_C, sizes.eps), _norm(k_TKC, layer.k_norm_C, sizes.eps)
    keys_KSC.index_copy_(1, inputs.slots_T, _rotated(k_TKC, inputs).transpose(0, 1))
    values_KSC.index_copy_(1, inputs.slots_T, v_TKC.transpose(0, 1))
    grouped_TKGC = _rotated(q_THC, inputs).view(rows, kv_heads, heads // kv_heads, width)
    return grouped_TKGC.transpose(0, 1).reshape(kv_heads, rows * (heads // kv_heads), width)


def _rotated(x_THC: Tensor, inputs: AttentionInputs) -> Tensor:
    """Rotary embedding: x * cos + swap(x) * sin; the sign of the first half is in the sine table."""
    return x_THC * inputs.cos_T1C + x_THC.roll(x_THC.shape[-1] // 2, -1) * inputs.sin_T1C


def _heads_together(mixed_KRC: Tensor, sizes: Sizes) -> Tensor:
    """(K, R, C) to (T, H * C)."""
    group = sizes.heads // sizes.kv_heads
    mixed_KTGC = mixed_KRC.view(sizes.kv_heads, -1, group, sizes.head_width)
    return mixed_KTGC.transpose(0, 1).reshape(-1, sizes.heads * sizes.head_width)


class PassFunctions(NamedTuple):
    """The functions of a pass, plain or compiled."""

    attention_inputs: Callable[[Tensor, Tensor, Tensor, TreeMask | None, Tables], AttentionInputs]
    run_layer: Callable[[Tensor, AttentionInputs, Tensor, Tensor, LayerWeights, Sizes, Tensor | None], Tensor]
    run_head: Callable[[Tensor, Tensor | None, Tensor, float], Tensor]


PLAIN = PassFunctions(attention_inputs, run_layer, run_head)
"""The functions in plain torch."""
