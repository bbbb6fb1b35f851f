"""A config, checked before anything is built from it: sizes are whole numbers that a real model can have.

What is read here, by the memory plan, the lean forward and drafts, is checked; other fields may hold anything, as those
of real checkpoints do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any

from specbench_s2d.display import cut
from specbench_s2d.errors import ModelError, in_one_line
from specbench_s2d.models.llama import why_not_lean
from specbench_s2d.models.tensors import head_width, kv_heads

FILE = "config.json"
# The most that a field may say, by its names in the families; far above the largest published models (some 130 layers,
# a width of 20,480, 262,144 ids, 10.5 million positions), and low enough to build a config and a plan from at once.
_MOST = {
    10**4: (
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_attention_heads", "n_head", "n_heads",
        "num_heads", "num_key_value_heads", "num_kv_heads", "num_local_experts", "num_experts", "n_routed_experts",
    ),
    10**6: ("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "head_dim"),
    10**7: ("vocab_size", "intermediate_size", "ffn_dim", "n_inner", "moe_intermediate_size"),
    10**8: ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length"),
}  # fmt: skip
_LIMITS = {field: most for most, fields in _MOST.items() for field in fields}
_NEEDED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
_OPTIONAL = ("num_key_value_heads", "head_dim")
_BITS = 8
"""Of a byte of weights: no checkpoint has more than as many parameters."""


def check_fields(fields: dict[str, Any], name: str, file: str = FILE) -> None:
    """Raise `ModelError` for sizes that no model has, before lists as long are built. `file`: what says them."""
    for field, value in _sizes(fields):
        least, most = 0 if "expert" in field or "moe" in field else 1, _LIMITS[field]
        if isinstance(value, (str, dict, bool)) or (isinstance(value, int) and not least <= value <= most):
            raise _refusal(name, field, value, f"a whole number from {least} to {most:,}", file)
    if not isinstance(fields.get("quantization_config") or {}, dict):
        raise _refusal(name, "quantization_config", fields["quantization_config"], "an object of named fields", file)
    token_ids(fields, "eos_token_id", name, file)


def token_ids(fields: dict[str, Any], field: str, name: str, file: str) -> list[int]:
    """The ids that a field names, one or a list of them; raises `ModelError` for anything else."""
    given = fields.get(field)
    listed = [] if given is None else given if isinstance(given, list) else [given]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in listed):
        raise _refusal(name, field, given, "a token id or a list of ids", file)
    return listed


def built(build: Callable[[], Any], name: str) -> Any:
    """transformers' config that `build` makes, with its sizes checked; raises `ModelError` in one line."""
    try:
        config = build()
        text = config.get_text_config()
    except Exception as error:  # transformers' classes check little: types, divisions and keys fail in many ways
        of_field = type(error).__name__.startswith("StrictDataclass")  # what it wraps names the field already
        said = in_one_line(error.__cause__ if of_field and error.__cause__ else error, whole=True)
        raise ModelError(f"{name}: {FILE} cannot be used ({said}); take it as it was published.") from error
    for field in _NEEDED:
        _check_size(text, field, name)
    for field in _OPTIONAL:
        if getattr(text, field, None) is not None:
            _check_size(text, field, name)
    if head_width(text) < 1:
        raise _refusal(name, "num_attention_heads", text.num_attention_heads, f"at most hidden_size {text.hidden_size}")
    if why_not_lean(config) is None:
        _check_lean(config, name)
    return config


def check_stored(config: Any, stored_bytes: int, name: str) -> None:
    """Raise `ModelError` for a config of far more parameters than `stored_bytes` of weights can hold.

    transformers would make the others up, in memory that there may not be. Counted are the embedding and, of every
    layer, one matrix, each parameter as one bit.
    """
    text = config.get_text_config()
    width, inner = int(text.hidden_size), getattr(text, "intermediate_size", None) or getattr(text, "ffn_dim", None)
    widest = max(width, inner) if isinstance(inner, int) else width
    embedded = getattr(text, "word_embed_proj_dim", None) or width
    described = text.vocab_size * embedded + text.num_hidden_layers * width * widest
    if described > _BITS * stored_bytes:
        raise ModelError(
            f"{name}: {FILE} describes more than {described:,} parameters ({text.num_hidden_layers:,} layers of width "
            f"{width:,}, {text.vocab_size:,} ids), and the weight files hold {stored_bytes:,} bytes; this is not the "
            "checkpoint its config describes."
        )


def _sizes(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every field that has a limit, those of parts (`text_config`, `vision_config`) too."""
    for field, value in fields.items():
        if field in _LIMITS:
            yield field, value
        elif field.endswith("_config") and isinstance(value, dict):
            yield from _sizes(value)


def _check_size(text: Any, field: str, name: str) -> None:
    value = getattr(text, field, None)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _refusal(name, field, value, "a whole number from 1 on")


def _check_lean(config: Any, name: str) -> None:
    """Likewise for what the lean forward alone reads."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    _check_size(config, "intermediate_size", name)
    heads, keys = config.num_attention_heads, kv_heads(config)
    if heads % keys:
        raise _refusal(name, "num_key_value_heads", keys, f"a divisor of num_attention_heads {heads}")
    if head_width(config) % 2:
        raise _refusal(name, "head_dim", head_width(config), "an even number, as rotary positions turn pairs")
    eps = config.rms_norm_eps
    if not isinstance(eps, (int, float)) or not isfinite(eps) or eps < 0:
        raise _refusal(name, "rms_norm_eps", eps, "a number from 0 on")
    try:
        rotary = LlamaRotaryEmbedding(config=config)
        sound = bool(rotary.inv_freq.isfinite().all()) and isfinite(float(rotary.attention_scaling))
    except Exception as error:  # whatever the values of an unknown or incomplete scaling lead to
        raise _refusal(
            name, "rope_parameters", f"unusable ({in_one_line(error, whole=True)})", "those of the checkpoint"
        ) from error
    if not sound:
        raise _refusal(name, "rope_parameters", config.rope_parameters, "those that give finite frequencies")


def _refusal(name: str, field: str, value: Any, allowed: str, file: str = FILE) -> ModelError:
    shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else cut(str(value), 80)
    return ModelError(f"{name}: {file}: {field} is {shown}, and must be {allowed}; take it as it was published.")
