"""Small random models of each family, beside the plain computation that ours must equal."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

TOLERANCE = 1e-4  # float32, absolute, on logits of a few units
VOCABULARY = 61
CONTEXT = 1100

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.15,
    "tie_word_embeddings": False,
}
_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
_YARN = {"factor": 4.0, "original_max_position_embeddings": 64}

FAMILIES: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama, tied": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama, a key head per query head": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4}),
    "llama, wide heads": (LlamaConfig, LlamaForCausalLM, {"head_dim": 32}),
    "llama, llama3 rope": (
        LlamaConfig,
        LlamaForCausalLM,
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10_000.0, **_LLAMA3}},
    ),
    "llama, linear rope": (
        LlamaConfig,
        LlamaForCausalLM,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}},
    ),
    "llama, yarn rope": (
        LlamaConfig,
        LlamaForCausalLM,
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10_000.0, **_YARN}},
    ),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
}


def random_model(config_class: type[Any], model_class: type[Any], **changes: Any) -> PreTrainedModel:
    """A random model in float32 whose norms are not all one, nor its biases all zero."""
    torch.manual_seed(0)
    model: PreTrainedModel = model_class(config_class(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def family_model(name: str) -> PreTrainedModel:
    """A model of `FAMILIES`."""
    config_class, model_class, changes = FAMILIES[name]
    return random_model(config_class, model_class, **{**_SHAPE, **changes})


def random_ids(count: int, seed: int = 1) -> Tensor:
    """(1, count) ids."""
    return torch.randint(VOCABULARY, (1, count), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def recomputed(model: PreTrainedModel, ids_BT: Tensor) -> Tensor:
    """Logits (B, T, V) of the whole sequence in one pass, without a cache."""
    logits: Tensor = model(input_ids=ids_BT, use_cache=False).logits
    return logits


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def random_tree(nodes: int, seed: int = 2) -> list[int]:
    """Parents (-1: the context) of a tree in level order, with branches and some depth."""
    generator = torch.Generator().manual_seed(seed)
    depth = [0, 0]
    parents = [-1, -1]
    for node in range(2, nodes):
        # Not before the last node's parent, and one level deeper at most: level order.
        lowest = max(parents[-1], 0)
        parents.append(int(torch.randint(lowest, min(lowest + 3, node), (1,), generator=generator)))
        depth.append(depth[parents[-1]] + 1)
    assert all(a <= b for a, b in pairwise(depth))
    return parents


def path_to(node: int, parents: list[int]) -> list[int]:
    """Nodes from the first level down to `node`."""
    return [*path_to(parents[node], parents), node] if node >= 0 else []


def tree_mask(parents: list[int]) -> Tensor:
    """bool (T, T): a node sees its ancestors and itself."""
    mask_TT = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for node in range(len(parents)):
        mask_TT[node, path_to(node, parents)] = True
    return mask_TT


def tree_positions(parents: list[int], start: int) -> Tensor:
    return torch.tensor([start + len(path_to(node, parents)) - 1 for node in range(len(parents))])
