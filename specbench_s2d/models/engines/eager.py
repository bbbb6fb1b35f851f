"""The eager engine: a pass as torch calls, one by one. Shapes: see `models/base.py`.

The batch is 1, so hidden states are (T, D), and every projection is one matrix product.
Logits equal transformers' to 1e-4 in float32 (tests/models/test_llama.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.base import positions_under
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.base import Engine, Request
from specbench_s2d.models.engines.threads import fastest_threads, torch_threads
from specbench_s2d.models.head import HeadRows, head_logits
from specbench_s2d.models.weights import LayerWeights, LlamaWeights

# Up to this many new positions, attention as separate small products is faster than a fused kernel.
_NARROW = 16


class Norm:
    """RMSNorm: x / sqrt(mean(x^2) + eps) * weight.

    On a CPU in float32, torch's own is a chain of small operations; a vector norm and a hypotenuse take half its time:
    sqrt(sum(x^2) + eps * D) is the hypotenuse of |x| and sqrt(eps * D).
    """

    def __init__(self, weight_D: Tensor, eps: float) -> None:
        self._weight_D, self._eps = weight_D, eps
        width = weight_D.shape[0]
        self._lean = weight_D.device.type == "cpu" and weight_D.dtype == torch.float32
        self._scaled_D = weight_D * width**0.5
        self._floor = torch.tensor((eps * width) ** 0.5, device=weight_D.device, dtype=weight_D.dtype)

    def __call__(self, rows_TD: Tensor) -> Tensor:
        if not self._lean:
            return F.rms_norm(rows_TD, self._weight_D.shape, self._weight_D, self._eps)
        length_T1: Tensor = torch.linalg.vector_norm(rows_TD, 2, -1, keepdim=True)
        scaled_TD: Tensor = rows_TD * self._scaled_D
        return scaled_TD.div_(torch.hypot(length_T1, self._floor))


@dataclass(frozen=True)
class _Layer:
    """The weights of one layer; projections are transposed views (in, out), for `addmm`."""

    attention_norm: Norm | None
    qkv_DA: Tensor
    qkv_bias_A: Tensor | None
    q_norm: Norm | None
    k_norm: Norm | None
    out_AD: Tensor
    mlp_norm: Norm
    gate_up_DF: Tensor
    down_FD: Tensor

    @classmethod
    def of(cls, layer: LayerWeights, eps: float) -> _Layer:
        return cls(
            attention_norm=None if layer.attention_norm_D is None else Norm(layer.attention_norm_D, eps),
            qkv_DA=layer.qkv_AD.t(),
            qkv_bias_A=layer.qkv_bias_A,
            q_norm=None if layer.q_norm_C is None else Norm(layer.q_norm_C, eps),
            k_norm=None if layer.k_norm_C is None else Norm(layer.k_norm_C, eps),
            out_AD=layer.out_DA.t(),
            mlp_norm=Norm(layer.mlp_norm_D, eps),
            gate_up_DF=layer.gate_up_FD.t(),
            down_FD=layer.down_DF.t(),
        )


class EagerEngine(Engine):
    """Runs passes of any shape. `why_eager`: why the model has no prepared engine, where eager was not asked for.

    `heads`: the head, and those of small vocabularies; by default of the weights' own.
    """

    name = "eager"

    def __init__(self, weights: LlamaWeights, why_eager: str | None = None, heads: HeadRows | None = None) -> None:
        self._weights, self._why_eager = weights, why_eager
        self._layers = [_Layer.of(layer, weights.eps) for layer in weights.layers]
        self._norm = None if weights.norm_D is None else Norm(weights.norm_D, weights.eps)
        self.heads = heads or HeadRows(weights.head_VD, weights.ids)
        self.vocabulary = weights.vocabulary
        device, dtype = weights.embedding_VD.device, weights.embedding_VD.dtype
        self.cache = KVCache(len(self._layers), weights.kv_heads, weights.head_width, weights.context, device, dtype)

        self.torch_threads: int | None = None
        self._times_ms: dict[int, float] = {}
        if device.type == "cpu":
            self.torch_threads, self._times_ms = self._fastest()

    def run(self, request: Request) -> Tensor:
        w, start, end = self._weights, request.start, request.end
        states = request.from_layer or request.inputs.is_floating_point()
        hidden_TD = request.inputs if states else F.embedding(request.inputs, w.embedding_VD)
        attended_TX = None
        if request.states is not None:
            hidden_TD, attended_TX = w.joined(hidden_TD, request.states)
        at = slice(start, end) if request.mask is None else positions_under(request.mask, end)
        cos_T1C, sin_T1C = w.cos_SC[at, None], w.sin_SC[at, None]
        seen_TS = self._visibility(start, request.new, request.mask)
        for index in range(request.from_layer, request.to_layer):
            hidden_TD = self._attend(index, hidden_TD, attended_TX, start, cos_T1C, sin_T1C, seen_TS)
            hidden_TD, attended_TX = self._feed_forward(self._layers[index], hidden_TD), None
        if request.last_only:
            hidden_TD = hidden_TD[-1:]
        return self.head(hidden_TD, request.vocabulary) if request.head else hidden_TD

    def head(self, hidden_TD: Tensor, vocabulary: DraftVocabulary | None = None, *, final: bool = False) -> Tensor:
        normed_TD = hidden_TD if final or self._norm is None else self._norm(hidden_TD)
        logits_TX = head_logits(normed_TD, self.heads.of(vocabulary).t())
        return logits_TX[:, : self.vocabulary]  # padding rows left out

    def embed(self, ids_T: Tensor) -> Tensor:
        return F.embedding(ids_T, self._weights.embedding_VD)

    def states_beside(self, ids_T: Tensor) -> Tensor | None:
        """States (T, D) to try a draft head's pass over `ids_T` with; None for a model."""
        return self.embed(ids_T.flip(0)) if self._weights.reads_states else None

    def for_head(self, weights: LlamaWeights) -> EagerEngine:
        heads = self.heads if weights.ids is None else None
        return EagerEngine(weights.beside(self._weights), self._why_eager, heads)

    def reserve(self, length: int) -> None:
        self.cache.reserve(length)

    def facts(self) -> dict[str, Any]:
        why = {"why_eager": self._why_eager} if self._why_eager else {}
        if self.torch_threads is None:
            return why
        return {**why, "threads": self.torch_threads, "pass_ms_by_threads": self._times_ms}

    @torch.inference_mode()
    def _fastest(self) -> tuple[int, dict[int, float]]:
        device, dtype = self.cache.device, self.cache.dtype
        inputs, beside = torch.zeros(1, dtype=torch.long, device=device), None
        if self._weights.reads_states:  # the target may be the one who embeds
            inputs = beside = torch.zeros(1, self._weights.width, device=device, dtype=dtype)
        self.reserve(1)

        def run(threads: int) -> None:
            with torch_threads(threads):
                self.run(Request(inputs, 0, 0, len(self._layers), head=True, states=beside))

        return fastest_threads(run)

    def _visibility(self, start: int, new: int, mask: Tensor | None) -> Tensor | None:
        """Additive mask (T, S + T): 0 where a new position attends, -inf elsewhere; None for full or plain causal
        attention."""
        narrow = new <= _NARROW
        if mask is None and (new == 1 or (start == 0 and not narrow)):
            return None
        device, dtype = self.cache.device, self.cache.dtype
        seen_TS = torch.zeros(new, start + new, device=device, dtype=dtype)
        hidden_TM = ~mask if mask is not None else torch.ones(new, new, device=device, dtype=torch.bool).triu(1)
        seen_TS[:, start + new - hidden_TM.shape[1] :].masked_fill_(hidden_TM, float("-inf"))
        # In the narrow path, the heads of a group are separate rows.
        return seen_TS.repeat_interleave(self._weights.heads // self._weights.kv_heads, 0) if narrow else seen_TS

    def _attend(
        self,
        index: int,
        hidden_TD: Tensor,
        attended_TX: Tensor | None,
        start: int,
        cos_T1C: Tensor,
        sin_T1C: Tensor,
        seen_TS: Tensor | None,
    ) -> Tensor:
        layer, heads, kv_heads = self._layers[index], self._weights.heads, self._weights.kv_heads
        new, width = hidden_TD.shape[0], self._weights.head_width
        if attended_TX is None:
            attended_TX = layer.attention_norm(hidden_TD) if layer.attention_norm else hidden_TD
        if layer.qkv_bias_A is None:
            qkv_TA = torch.mm(attended_TX, layer.qkv_DA)
        else:
            qkv_TA = torch.addmm(layer.qkv_bias_A, attended_TX, layer.qkv_DA)
        qkv_THC = qkv_TA.view(new, heads + 2 * kv_heads, width)
        qk_THC = qkv_THC[:, : heads + kv_heads]
        if layer.q_norm is not None and layer.k_norm is not None:
            qk_THC = torch.cat((layer.q_norm(qk_THC[:, :heads]), layer.k_norm(qk_THC[:, heads:])), dim=1)
        # Rotary embedding: x * cos + swap(x) * sin; the sign of the first half is in the sine table.
        qk_THC = torch.addcmul(qk_THC * cos_T1C, qk_THC.roll(width // 2, -1), sin_T1C)
        keys_KSC, values_KSC = self.cache.write(index, start, qk_THC[:, heads:], qkv_THC[:, heads + kv_heads :])
        mixed_TA = self._mix(qk_THC[:, :heads], keys_KSC, values_KSC, seen_TS)
        return torch.addmm(hidden_TD, mixed_TA, layer.out_AD)

    def _mix(self, q_THC: Tensor, keys_KSC: Tensor, values_KSC: Tensor, seen_TS: Tensor | None) -> Tensor:
        """Attention of T queries over S keys; the query heads of a group share a key-value head; returns (T, H*C)."""
        new, heads, width = q_THC.shape
        if new > _NARROW:
            mixed_HTC = F.scaled_dot_product_attention(
                q_THC.transpose(0, 1)[None],
                keys_KSC[None],
                values_KSC[None],
                attn_mask=seen_TS,
                is_causal=seen_TS is None,
                enable_gqa=heads != keys_KSC.shape[0],
            )[0]
            return mixed_HTC.transpose(0, 1).reshape(new, heads * width)
        kv_heads = keys_KSC.shape[0]
        group = heads // kv_heads
        q_KRC = q_THC.view(new, kv_heads, group, width).transpose(0, 1).reshape(kv_heads, new * group, width)
        # One call scales, masks and multiplies; with beta 0 the added tensor is not read.
        added, beta = (q_KRC.new_empty(1), 0) if seen_TS is None else (seen_TS, 1)
        scores_KRS = torch.baddbmm(added, q_KRC, keys_KSC.transpose(1, 2), beta=beta, alpha=self._weights.scale)
        mixed_KRC = torch.bmm(torch.softmax(scores_KRS, dim=-1), values_KSC)
        return mixed_KRC.view(kv_heads, new, group, width).transpose(0, 1).reshape(new, heads * width)

    def _feed_forward(self, layer: _Layer, hidden_TD: Tensor) -> Tensor:
        normed_TD = layer.mlp_norm(hidden_TD)
        gate_TF, up_TF = torch.mm(normed_TD, layer.gate_up_DF).chunk(2, dim=-1)
        return torch.addmm(hidden_TD, F.silu(gate_TF).mul_(up_TF), layer.down_FD)
