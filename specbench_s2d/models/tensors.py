"""The tensors of a Llama-family checkpoint, derived from its config."""

from __future__ import annotations

from math import prod
from typing import Any


def head_width(config: Any) -> int:
    """C: the config's head width, else the hidden width over the number of heads."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def kv_heads(config: Any) -> int:
    """K: the key-value heads, as many as query heads where the config does not group them."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def layer_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of one layer, by its name after `model.layers.N.`."""
    width, inner, head = config.hidden_size, config.intermediate_size, head_width(config)
    query, key = config.num_attention_heads * head, kv_heads(config) * head
    outputs = {"q": query, "k": key, "v": key}
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (width,),
        **{f"self_attn.{part}_proj.weight": (out, width) for part, out in outputs.items()},
        "self_attn.o_proj.weight": (width, query),
        "post_attention_layernorm.weight": (width,),
        "mlp.gate_proj.weight": (inner, width),
        "mlp.up_proj.weight": (inner, width),
        "mlp.down_proj.weight": (width, inner),
    }
    if config.model_type == "qwen2":
        shapes |= {f"self_attn.{part}_proj.bias": (out,) for part, out in outputs.items()}
    if config.model_type == "qwen3":
        shapes |= {f"self_attn.{part}_norm.weight": (head,) for part in "qk"}
    return shapes


def tensor_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a checkpoint by its name there; a tied head is not one of them."""
    table = (config.vocab_size, config.hidden_size)
    layers = range(config.num_hidden_layers)
    return {
        "model.embed_tokens.weight": table,
        **{f"model.layers.{i}.{name}": shape for i in layers for name, shape in layer_shapes(config).items()},
        "model.norm.weight": (config.hidden_size,),
        **({} if config.tie_word_embeddings else {"lm_head.weight": table}),
    }


def parameters(config: Any) -> int:
    """The number of parameters of a checkpoint; a tied head counts once."""
    return sum(prod(shape) for shape in tensor_shapes(config).values())
