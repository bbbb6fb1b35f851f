"""`shape:NAME`: real architectures with random weights, made on the device; only a tokenizer is read from disk.

The cost of a pass depends on the shapes of its matrices, not on their values, so pass times, cost ratios and energy can
be measured without the real weights. The output of such a model is meaningless.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.errors import find_name
from specbench_s2d.models.exits import CONFIG_KEY
from specbench_s2d.models.tensors import parameters, tensor_shapes

PREFIX = "shape:"
TOKENIZER = "demo-s"
"""All shapes use the demo family's tokenizer: its 2,048 ids are valid in every vocabulary of the table."""

_STD = 0.02
_SEED = 0


def _llama(width: int, inner: int, layers: int, heads: int, **others: Any) -> dict[str, Any]:
    """Config fields, by default those of Llama 2: 32,000 ids, 4,096 positions, an untied head."""
    fields = {
        "vocab_size": 32_000,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    return fields | others


def _llama3(factor: float) -> dict[str, Any]:
    """Fields that Llama 3.1 and 3.2 share: 128,256 ids, 131,072 positions, and their rotary scaling."""
    scaling = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": factor, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    return {"vocab_size": 128_256, "max_position_embeddings": 131_072, "rope_parameters": scaling}


def _demo(layers: int, width: int = 192, inner: int = 512, heads: int = 3) -> dict[str, Any]:
    """Fields of the demo family: one key-value head of width 64, and a tied head."""
    family = {"vocab_size": 2048, "num_key_value_heads": 1, "head_dim": 64, "tie_word_embeddings": True}
    return _llama(width, inner, layers, heads, rms_norm_eps=1e-6, **family)


_LLAMA_1 = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6}

# Sources: config.json of the hub repository in the comment; the papers give the same widths and depths (LLaMA,
# arXiv 2302.13971, table 2; Llama 2, arXiv 2307.09288, table 1; Llama 3, arXiv 2407.21783, table 3).
_SHAPES: dict[str, dict[str, Any]] = {
    "vicuna-7b": _llama(4096, 11_008, 32, 32),  # lmsys/vicuna-7b-v1.5
    "vicuna-13b": _llama(5120, 13_824, 40, 40),  # lmsys/vicuna-13b-v1.5
    "vicuna-33b": _llama(6656, 17_920, 60, 52, **_LLAMA_1),  # lmsys/vicuna-33b-v1.3
    "llama-2-7b": _llama(4096, 11_008, 32, 32),  # meta-llama/Llama-2-7b-hf
    "llama-2-13b": _llama(5120, 13_824, 40, 40),  # meta-llama/Llama-2-13b-hf
    "llama-2-70b": _llama(8192, 28_672, 80, 64, num_key_value_heads=8),  # meta-llama/Llama-2-70b-hf
    "llama-3.1-8b": _llama(4096, 14_336, 32, 32, num_key_value_heads=8, **_llama3(8.0)),  # meta-llama/Llama-3.1-8B
    "llama-3.2-1b": _llama(  # meta-llama/Llama-3.2-1B
        2048, 8192, 16, 32, num_key_value_heads=8, head_dim=64, **{**_llama3(32.0), "tie_word_embeddings": True}
    ),
    "vicuna-68m": _llama(768, 3072, 2, 12, **_LLAMA_1),  # double7/vicuna-68m
    "vicuna-160m": _llama(768, 3072, 12, 12, **_LLAMA_1),  # double7/vicuna-160m
    # parsakaveh/SD2-SoFT-Draft: the first layers of a Vicuna 7B (S2D, arXiv 2407.01955, section 4).
    "s2d-draft": _llama(4096, 11_008, 12, 32) | {CONFIG_KEY: [6, 9, 12]},
    # specbench_s2d/demo
    "demo-tiny": _demo(2, 128, 352, 2),
    "demo-s": _demo(8),
    "demo-m": _demo(12),
    "demo-l": _demo(20),
    "demo-draft-sft": _demo(4),
    "demo-draft": _demo(4) | {CONFIG_KEY: [2, 3, 4]},
}


def shape_names() -> list[str]:
    """The model names of all shapes."""
    return [PREFIX + name for name in _SHAPES]


def shape_rows() -> list[dict[str, Any]]:
    """One row per shape: sizes, parameters, in millions too, exits."""
    rows = []
    for name in shape_names():
        shape = Shape.find(name)
        config, size = shape.config(), parameters(shape.config())
        rows.append(
            {
                "name": name,
                "layers": config.num_hidden_layers,
                "width": config.hidden_size,
                "vocab": config.vocab_size,
                "context": config.max_position_embeddings,
                "parameters": size,
                "parameters_m": round(size / 1e6, 1),
                "exits": shape.fields.get(CONFIG_KEY),
            }
        )
    return rows


@dataclass(frozen=True)
class Shape:
    """An architecture: its name and the fields of its config."""

    name: str
    fields: dict[str, Any]

    @classmethod
    def find(cls, name: str) -> Shape:
        """The shape that a model name `shape:NAME` means; raises `UnknownNameError` with the nearest names."""
        full = find_name("shape", name, shape_names())
        return cls(full, _SHAPES[full.removeprefix(PREFIX)])

    def config(self) -> Any:
        """The transformers config of the architecture; the EOS (end of sequence) token is the tokenizer's."""
        from transformers import LlamaConfig

        return LlamaConfig(**self.fields, bos_token_id=None, eos_token_id=None)

    def sha256(self) -> str:
        """Hash of the fields and of the random weights' parameters, in place of a hash of weight files."""
        drawn = {**self.fields, "std": _STD, "seed": _SEED}
        return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()


def random_weights(config: Any, device: torch.device, dtype: torch.dtype) -> Callable[[str], Tensor]:
    """A function that makes one tensor by name on the device: norms are 1, the others normal with deviation 0.02.

    The seed of each tensor is derived from its name, so a shape has the same weights on every device of one kind, and a
    draft that is the first layers of its target has the target's weights.
    """
    shapes = tensor_shapes(config)

    def make(name: str) -> Tensor:
        weight = torch.empty(shapes[name], device=device, dtype=dtype)
        if weight.dim() == 1:
            return weight.fill_(1)
        seed = int.from_bytes(hashlib.sha256(f"{_SEED}/{name}".encode()).digest()[:7])
        return weight.normal_(0, _STD, generator=torch.Generator(device).manual_seed(seed))

    return make
