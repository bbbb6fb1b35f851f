"""What a model will take of its device's memory, from its config alone: told, and refused, before it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from specbench_s2d.errors import ModelError
from specbench_s2d.models.cache import room_for
from specbench_s2d.models.checkpoint import Checkpoint
from specbench_s2d.models.hf import context_of
from specbench_s2d.models.llama import quantisation, why_not_lean
from specbench_s2d.models.tensors import head_width, kv_heads, parameters

# What CUDA graphs add, an estimate: static buffers as wide as the widest pass, and the recorded launches, which grow
# with the layers of each of the passes.
_GRAPH_ROWS = 64
_GRAPHS = 64
_LAUNCHES_BYTES = 2**16


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of one model: weights, keys and values, what CUDA graphs keep, and what the widest pass works in."""

    name: str
    weights_bytes: int
    cache_bytes: int
    graphs_bytes: int
    working_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes + self.graphs_bytes + self.working_bytes

    def facts(self) -> dict[str, int | str]:
        """For a dry run's table: name and bytes, part by part and in all."""
        parts = ("weights_bytes", "cache_bytes", "graphs_bytes", "working_bytes", "total_bytes")
        return {"name": self.name, **{part: getattr(self, part) for part in parts}}

    def __str__(self) -> str:
        parts = f"weights {_gb(self.weights_bytes)}, cache {_gb(self.cache_bytes)}"
        if self.graphs_bytes:
            parts += f", graphs {_gb(self.graphs_bytes)}"
        return f"{self.name} {_gb(self.total_bytes)} GB ({parts}, working {_gb(self.working_bytes)})"


def plan_memory(
    found: Checkpoint, config: Any, dtype: torch.dtype, positions: int = 1, graphs: bool = False
) -> MemoryPlan:
    """The plan of a model whose sequences are at most `positions` long, which may all be one pass.

    Weights of Llama-family checkpoints are exact; those of others are what their files hold, in `dtype`. `graphs`:
    passes are CUDA graphs. The rest are estimates: the cache in steps of 512 positions, and for the widest pass the
    hidden states, projections and feed-forward of one layer, and the logits of all positions, twice in float32.
    """
    text = config.get_text_config()
    context = context_of(text, found.name)
    room = room_for(positions, context)
    per_row = row_bytes(text, dtype)
    layers = text.num_hidden_layers
    launches = _GRAPHS * layers * _LAUNCHES_BYTES
    return MemoryPlan(
        name=found.name,
        weights_bytes=_weights_bytes(found, config, dtype),
        cache_bytes=2 * layers * kv_heads(text) * head_width(text) * room * dtype.itemsize,
        graphs_bytes=_GRAPH_ROWS * per_row + launches if graphs else 0,
        working_bytes=room * per_row + 2 * context * head_width(text) * dtype.itemsize,  # and the rotary tables
    )


def row_bytes(config: Any, dtype: torch.dtype) -> int:
    """What one position of a pass works in: 4 hidden states, query to value, 3 feed-forward rows; its logits."""
    inner = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", 4 * config.hidden_size)
    projected = (config.num_attention_heads + 2 * kv_heads(config)) * head_width(config)
    logits = config.vocab_size * (dtype.itemsize + 2 * torch.float32.itemsize)
    return int((4 * config.hidden_size + projected + 3 * inner) * dtype.itemsize + logits)


def check_fits(plans: Sequence[MemoryPlan], free_bytes: int, device: str) -> None:
    """Raise `ModelError` with the figures where models that are loaded together do not fit in what is free."""
    needed = sum(plan.total_bytes for plan in plans)
    if needed > free_bytes:
        raise ModelError(
            f"--device {device}: {_gb(free_bytes)} GB are free, and {_gb(needed)} GB are needed: "
            f"{'; '.join(map(str, plans))}. Lower --max-new-tokens, give --dtype bfloat16 or a "
            "smaller model, or spread a checkpoint over several GPUs with --device auto."
        )


def _weights_bytes(found: Checkpoint, config: Any, dtype: torch.dtype) -> int:
    """Exact where the config says every tensor; else by the files, which hold numbers of a type of their own."""
    if why_not_lean(config) is None:
        return parameters(config) * dtype.itemsize
    stored = sum(file.stat().st_size for file in found.weight_files)
    if quantisation(config):
        return stored
    return stored * dtype.itemsize // (config.dtype or torch.float16).itemsize


def _gb(size: int) -> str:
    """In units of 1e9 bytes, with enough digits to tell small models apart."""
    return f"{size / 1e9:.1f}" if size >= 1e9 else f"{size / 1e9:.3f}"
