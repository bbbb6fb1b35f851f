"""One lean forward for Llama-family checkpoints: Llama, Vicuna, Mistral, Qwen2 and Qwen3.

Shapes: see `models/base.py`. The batch is 1, so positions are rows: hidden states are (T, D) inside, and every
projection is one matrix product. Query, key and value weights are stored as one matrix, gate and up as another.
Logits equal transformers' to 1e-4 in float32 (tests/models/test_llama.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.exits import config_exits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Weights = Callable[[str], Tensor]
"""A checkpoint's tensor by its name, already on the device and in the dtype."""

# Up to this many new positions, attention as three small products beats a fused kernel's set-up.
_NARROW = 16
_LEAN_ROPES = frozenset({"default", "linear", "llama3", "yarn"})
_LEAN_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3"})


class _Norm:
    """RMSNorm: x / sqrt(mean(x^2) + eps) * weight.

    On a CPU in float32, torch runs its own as a chain of small operations; the same as norm and hypot takes half the
    time, for sqrt(sum(x^2) + eps * D) is the hypotenuse of |x| and sqrt(eps * D).
    """

    def __init__(self, weight_D: Tensor, eps: float) -> None:
        self.weight_D, self._eps = weight_D, eps
        width = weight_D.shape[0]
        self._lean = weight_D.device.type == "cpu" and weight_D.dtype == torch.float32
        self._scaled_D = weight_D * width**0.5
        self._floor = torch.tensor((eps * width) ** 0.5, device=weight_D.device, dtype=weight_D.dtype)

    def __call__(self, rows_TD: Tensor) -> Tensor:
        if not self._lean:
            return F.rms_norm(rows_TD, self.weight_D.shape, self.weight_D, self._eps)
        length_T1: Tensor = torch.linalg.vector_norm(rows_TD, 2, -1, keepdim=True)
        scaled_TD: Tensor = rows_TD * self._scaled_D
        return scaled_TD.div_(torch.hypot(length_T1, self._floor))


@dataclass(frozen=True)
class _Layer:
    """One layer's weights; projections are transposed views, (in, out), as `addmm` takes them."""

    attention_norm: _Norm
    qkv_DA: Tensor
    qkv_bias_A: Tensor | None
    out_AD: Tensor
    q_norm: _Norm | None
    k_norm: _Norm | None
    mlp_norm: _Norm
    gate_up_DF: Tensor
    down_FD: Tensor


def why_not_lean(config: Any) -> str | None:
    """Why a checkpoint must go through transformers' own forward; None when the lean one computes the same."""
    if config.model_type not in _LEAN_TYPES:
        return f"model type {config.model_type}"
    if getattr(config, "hidden_act", "silu") != "silu":
        return f"activation {config.hidden_act}"
    if getattr(config, "mlp_bias", False) or (
        config.model_type in ("llama", "qwen3") and getattr(config, "attention_bias", False)
    ):
        return "biases in the layers"
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and window < config.max_position_embeddings:
        return f"a sliding window of {window}"
    rope = str((config.rope_parameters or {}).get("rope_type", "default"))
    return None if rope in _LEAN_ROPES else f"rotary embedding {rope}"


class LlamaModel(LanguageModel):
    """A Llama-family model whose every sub-range of layers can be run on its own over one cache."""

    has_layer_ranges: ClassVar[bool] = True

    def __init__(
        self,
        identity: Identity,
        config: Any,
        weights: Weights,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: frozenset[int],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.identity, self.tokenizer, self.eos_ids = identity, tokenizer, eos_ids
        self.device, self.dtype = device, dtype
        self.vocabulary, self.width = config.vocab_size, config.hidden_size
        self.depth, self.context = config.num_hidden_layers, config.max_position_embeddings
        self.exits = config_exits(identity.name, config)
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_width = getattr(config, "head_dim", None) or self.width // self._heads
        self._scale, self._eps = self._head_width**-0.5, config.rms_norm_eps
        weights = _checked_shapes(weights, identity.name, config, self._head_width)
        self._embedding_VD = weights("model.embed_tokens.weight")
        self._norm = _Norm(weights("model.norm.weight"), self._eps)
        head_VD = self._embedding_VD if config.tie_word_embeddings else weights("lm_head.weight")
        self._head_DV = head_VD.t()
        self._layers = [_load_layer(weights, i, config.model_type, self._eps) for i in range(self.depth)]
        self._cos_SC, self._sin_SC = _rotary_tables(config, self.context, device, dtype)
        self._cache = KVCache(self.depth, self._kv_heads, self._head_width, self.context, device, dtype)
        self._layer_bytes = _bytes(part for part in vars(self._layers[0]).values())
        self._head_bytes = _bytes([self._head_DV, self._norm])

    @property
    def length(self) -> int:
        return min(self._cache.lengths)

    def layer_length(self, layer: int) -> int:
        return self._cache.lengths[layer]

    @torch.inference_mode()
    def extend(
        self,
        inputs: Tensor,
        from_layer: int = 0,
        to_layer: int | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        new, start = inputs.shape[1], self._cache.lengths[from_layer]
        self.check_room(start, new)
        self._cache.reserve(start + new)
        end_layer = self.depth if to_layer is None else to_layer
        hidden_TD = F.embedding(inputs[0], self._embedding_VD) if from_layer == 0 else inputs[0]
        if positions is None:
            cos_T1C, sin_T1C = self._cos_SC[start : start + new, None], self._sin_SC[start : start + new, None]
        else:
            cos_T1C, sin_T1C = self._cos_SC[positions, None], self._sin_SC[positions, None]
        seen_TS = self._visibility(start, new, mask)
        for index in range(from_layer, end_layer):
            hidden_TD = self._attend(index, hidden_TD, start, cos_T1C, sin_T1C, seen_TS)
            hidden_TD = self._feed_forward(self._layers[index], hidden_TD)
            self._cache.lengths[index] = start + new
        self.read_bytes += (end_layer - from_layer) * (self._layer_bytes + (start + new) * self._cache.position_bytes)
        if last_only:
            hidden_TD = hidden_TD[-1:]
        hidden_BTD = hidden_TD[None]
        return self.head(hidden_BTD) if to_layer is None else hidden_BTD

    @torch.inference_mode()
    def head(self, hidden_BTD: Tensor) -> Tensor:
        self.read_bytes += self._head_bytes
        normed_TD = self._norm(hidden_BTD[0])
        return torch.mm(normed_TD, self._head_DV)[None].float()

    def rollback(self, length: int) -> None:
        self._cache.rollback(length)

    @torch.inference_mode()
    def keep(self, positions: Sequence[int], start: int) -> None:
        self._cache.keep(positions, start)

    @property
    def parameter_bytes(self) -> int:
        tied = self._head_DV.data_ptr() == self._embedding_VD.data_ptr()
        embedding = 0 if tied else _bytes([self._embedding_VD])
        return embedding + self._head_bytes + self.depth * self._layer_bytes

    def _visibility(self, start: int, new: int, mask: Tensor | None) -> Tensor | None:
        """Additive mask (T, S + T): 0 where a new position sees, -inf where not; None for all or plain causal."""
        narrow = new <= _NARROW
        if mask is None and (new == 1 or (start == 0 and not narrow)):
            return None
        seen_TS = torch.zeros(new, start + new, device=self.device, dtype=self.dtype)
        hidden_TM = ~mask if mask is not None else torch.ones(new, new, device=self.device, dtype=torch.bool).triu(1)
        seen_TS[:, start + new - hidden_TM.shape[1] :].masked_fill_(hidden_TM, float("-inf"))
        # The narrow path lays the heads of a group out as rows of their own.
        return seen_TS.repeat_interleave(self._heads // self._kv_heads, 0) if narrow else seen_TS

    def _attend(
        self, index: int, hidden_TD: Tensor, start: int, cos_T1C: Tensor, sin_T1C: Tensor, seen_TS: Tensor | None
    ) -> Tensor:
        layer, heads, kv_heads = self._layers[index], self._heads, self._kv_heads
        new = hidden_TD.shape[0]
        normed_TD = layer.attention_norm(hidden_TD)
        if layer.qkv_bias_A is None:
            qkv_TA = torch.mm(normed_TD, layer.qkv_DA)
        else:
            qkv_TA = torch.addmm(layer.qkv_bias_A, normed_TD, layer.qkv_DA)
        qkv_THC = qkv_TA.view(new, heads + 2 * kv_heads, self._head_width)
        qk_THC = qkv_THC[:, : heads + kv_heads]
        if layer.q_norm is not None and layer.k_norm is not None:
            qk_THC = torch.cat((layer.q_norm(qk_THC[:, :heads]), layer.k_norm(qk_THC[:, heads:])), dim=1)
        # Rotate halves: x * cos + swap(x) * sin, the sign of the first half folded into the sine table.
        qk_THC = torch.addcmul(qk_THC * cos_T1C, qk_THC.roll(self._head_width // 2, -1), sin_T1C)
        keys_KSC, values_KSC = self._cache.write(index, start, qk_THC[:, heads:], qkv_THC[:, heads + kv_heads :])
        mixed_TA = self._mix(qk_THC[:, :heads], keys_KSC, values_KSC, seen_TS)
        return torch.addmm(hidden_TD, mixed_TA, layer.out_AD)

    def _mix(self, q_THC: Tensor, keys_KSC: Tensor, values_KSC: Tensor, seen_TS: Tensor | None) -> Tensor:
        """Attention of T queries over S keys, grouped heads sharing a key-value head; returns (T, H*C)."""
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
        # One product scales, masks and multiplies; with beta 0 what it would add is not read.
        added, beta = (q_KRC.new_empty(1), 0) if seen_TS is None else (seen_TS, 1)
        scores_KRS = torch.baddbmm(added, q_KRC, keys_KSC.transpose(1, 2), beta=beta, alpha=self._scale)
        mixed_KRC = torch.bmm(torch.softmax(scores_KRS, dim=-1), values_KSC)
        return mixed_KRC.view(kv_heads, new, group, width).transpose(0, 1).reshape(new, heads * width)

    def _feed_forward(self, layer: _Layer, hidden_TD: Tensor) -> Tensor:
        normed_TD = layer.mlp_norm(hidden_TD)
        gate_TF, up_TF = torch.mm(normed_TD, layer.gate_up_DF).chunk(2, dim=-1)
        return torch.addmm(hidden_TD, F.silu(gate_TF).mul_(up_TF), layer.down_FD)


def _bytes(parts: Iterable[Tensor | _Norm | None]) -> int:
    """Bytes of the weights among `parts`."""
    tensors = [part.weight_D if isinstance(part, _Norm) else part for part in parts if part is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _checked_shapes(weights: Weights, name: str, config: Any, head_width: int) -> Weights:
    """`weights`, refusing with `ModelError` a matrix that has not the shape the config says."""
    vocabulary, width, inner = config.vocab_size, config.hidden_size, config.intermediate_size
    query, key = config.num_attention_heads * head_width, config.num_key_value_heads * head_width
    shapes = {"q_proj": (query, width), "k_proj": (key, width), "v_proj": (key, width), "o_proj": (width, query)}
    shapes |= {"gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner)}
    shapes |= {"embed_tokens": (vocabulary, width), "lm_head": (vocabulary, width)}

    def read(tensor_name: str) -> Tensor:
        tensor, said = weights(tensor_name), shapes.get(tensor_name.split(".")[-2])
        if tensor.dim() == 2 and said is not None and tuple(tensor.shape) != said:
            raise ModelError(
                f"{name}: {tensor_name!r} is {tuple(tensor.shape)}, and by the config it is {said}; "
                "this is not the checkpoint its config describes."
            )
        return tensor

    return read


def _load_layer(weights: Weights, index: int, model_type: str, eps: float) -> _Layer:
    prefix = f"model.layers.{index}."
    attention, mlp = prefix + "self_attn.", prefix + "mlp."
    biased, normed = model_type == "qwen2", model_type == "qwen3"
    qkv_AD = torch.cat([weights(f"{attention}{part}_proj.weight") for part in "qkv"])
    gate_up_FD = torch.cat([weights(f"{mlp}{part}_proj.weight") for part in ("gate", "up")])
    return _Layer(
        attention_norm=_Norm(weights(prefix + "input_layernorm.weight"), eps),
        qkv_DA=qkv_AD.t(),
        qkv_bias_A=torch.cat([weights(f"{attention}{part}_proj.bias") for part in "qkv"]) if biased else None,
        out_AD=weights(attention + "o_proj.weight").t(),
        q_norm=_Norm(weights(attention + "q_norm.weight"), eps) if normed else None,
        k_norm=_Norm(weights(attention + "k_norm.weight"), eps) if normed else None,
        mlp_norm=_Norm(weights(prefix + "post_attention_layernorm.weight"), eps),
        gate_up_DF=gate_up_FD.t(),
        down_FD=weights(mlp + "down_proj.weight").t(),
    )


def _rotary_tables(config: Any, length: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and signed sin, (S, C) each, from the checkpoint's own frequencies (transformers' rope functions)."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rotary = LlamaRotaryEmbedding(config=config)
    angles_SF = torch.outer(torch.arange(length, dtype=torch.float32), rotary.inv_freq.float().cpu())
    scaling = float(rotary.attention_scaling)
    cos_SF, sin_SF = angles_SF.cos() * scaling, angles_SF.sin() * scaling
    cos_SC, sin_SC = torch.cat((cos_SF, cos_SF), -1), torch.cat((-sin_SF, sin_SF), -1)
    return cos_SC.to(device, dtype), sin_SC.to(device, dtype)
