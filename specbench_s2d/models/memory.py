"""What a model will take of its device's memory, from its config alone: told, and refused, before it is loaded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from specbench_s2d.models.cache import room_for
from specbench_s2d.models.engines.graph_keys import MASK_COLUMNS, MOST_ROWS
from specbench_s2d.models.forward_check import POSITIONS
from specbench_s2d.models.graph_memory import WORKSPACE_BYTES, GraphNeeds
from specbench_s2d.models.heads.shape import MEDUSA, HeadShape
from specbench_s2d.models.llama import quantisation
from specbench_s2d.models.resolve import ResolvedModel
from specbench_s2d.models.tensors import head_width, kv_heads, layer_shapes, parameters


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of one model on its device.

    `cache_bytes`: keys and values of the positions that are reserved. `graphs_bytes`: what the `graphs` CUDA graphs are
    recorded in; `pool_bytes`: the working memory of the widest of them, which all share, and cuBLAS's workspaces.
    `buffers_bytes`: rotary tables, the graphs' static inputs and outputs, the heads of small vocabularies.
    `working_bytes`: what the widest eager pass works in. `loading_bytes`: what loading needs beside the weights, given
    back before the cache is made. `block_bytes`: the largest part that is never split over devices, a layer or the
    embedding.
    """

    name: str
    weights_bytes: int
    cache_bytes: int
    graphs_bytes: int
    working_bytes: int
    pool_bytes: int = 0
    buffers_bytes: int = 0
    loading_bytes: int = 0
    graphs: int = 0
    block_bytes: int = 0

    @property
    def running_bytes(self) -> int:
        """What comes on top of the weights once they are loaded."""
        return self.cache_bytes + self.graphs_bytes + self.pool_bytes + self.working_bytes

    @property
    def total_bytes(self) -> int:
        """The most at any time: while it loads, or while it runs."""
        return self.weights_bytes + self.buffers_bytes + max(self.running_bytes, self.loading_bytes)

    def facts(self) -> dict[str, int | str]:
        """For a dry run's table: name and bytes, part by part and in all."""
        return {"name": self.name, **{f"{part}_bytes": getattr(self, f"{part}_bytes") for part in (*PARTS, "total")}}

    def __str__(self) -> str:
        graphs = ("graphs", "pool") if self.graphs else ()
        parts = [f"{part} {gb(getattr(self, f'{part}_bytes'))}" for part in PARTS if part not in _OF_GRAPHS]
        parts[2:2] = [f"{part} {gb(getattr(self, f'{part}_bytes'))}" for part in graphs]
        counted = f"; {self.graphs} CUDA graphs, estimated" if self.graphs else ""
        return f"{self.name} {gb(self.total_bytes)} GB ({', '.join(parts)}{counted})"


PARTS = ("weights", "cache", "graphs", "pool", "working", "buffers", "loading")
_OF_GRAPHS = ("graphs", "pool")


def plan_memory(
    model: ResolvedModel,
    dtype: torch.dtype,
    positions: int = 1,
    graphs: GraphNeeds | None = None,
    on_host: bool = False,
    small_heads: Collection[int] = (),
    checked: bool = False,
) -> MemoryPlan:
    """The plan of a model that reserves `positions`, which may all be one pass.

    Weights, cache, rotary tables and static buffers of Llama-family checkpoints are exact; weights of others are what
    their files hold, in `dtype`. `graphs`: those that its passes are captured in. `on_host`: the model is loaded into
    the memory that its files are read into, and its head is float32 there. `small_heads`: the sizes of the small
    vocabularies that decoders read it with. `checked`: its forward is held to transformers' own, a second copy of the
    weights, when it is loaded. The rest are estimates: for the widest pass the hidden states, projections and
    feed-forward of one layer, and the logits of all positions, twice in float32; what attention keeps beside them
    (explicit masks of long passes) is left out.
    """
    if model.head_shape:
        return _head_plan(model, model.head_shape, dtype, positions, graphs, on_host)
    config, lean, context = model.config, model.has_layer_ranges, model.context
    text = config.get_text_config()
    beyond = MOST_ROWS if graphs else 0  # rows that a graph rounds up are written after the end
    room = room_for(min(positions, context) + beyond, context + beyond)
    per_row = row_bytes(text, dtype)
    per_position = 2 * kv_heads(text) * head_width(text) * dtype.itemsize
    tables = 2 * context * head_width(text) * dtype.itemsize
    kept, meanwhile = _float32_head_bytes(text, dtype) if on_host else (0, 0)
    return MemoryPlan(
        name=model.name,
        weights_bytes=_weights_bytes(model, dtype) + kept,
        cache_bytes=text.num_hidden_layers * per_position * room,
        graphs_bytes=graphs.recorded_bytes(room - beyond) if graphs else 0,
        working_bytes=(room - beyond) * per_row,
        pool_bytes=pool_bytes(text, dtype, graphs.widest_rows, room) + WORKSPACE_BYTES if graphs else 0,
        buffers_bytes=tables
        + (static_bytes(text, dtype) if graphs else 0)
        + sum(small_heads) * head_row_bytes(text, dtype, on_host),
        loading_bytes=max(
            _weights_bytes(model, dtype) + 2 * POSITIONS * per_row if checked else 0,
            max(
                _parts_bytes(text, dtype) if lean else 0,
                meanwhile,
                _converted_bytes(model, dtype) if lean and not on_host else 0,
            )
            + (_shard_bytes(model) if on_host else 0),
        ),
        graphs=graphs.count(room - beyond) if graphs else 0,
        block_bytes=_block_bytes(model, dtype),
    )


def _head_plan(
    model: ResolvedModel, head: HeadShape, dtype: torch.dtype, positions: int, graphs: GraphNeeds | None, on_host: bool
) -> MemoryPlan:
    """The plan of a draft head: its own weights, a cache of its own layers, and its graphs."""
    wider = torch.float32.itemsize - dtype.itemsize if on_host else 0  # of LM heads, which are float32 there
    weights_bytes = head.own_parameters * dtype.itemsize + head.lm_parameters * wider
    if head.kind == MEDUSA:
        rows = head.heads * (head.vocabulary or 0)
        return MemoryPlan(
            name=model.name,
            weights_bytes=weights_bytes,
            cache_bytes=0,
            graphs_bytes=0,
            working_bytes=3 * (rows + head.heads * head.width) * torch.float32.itemsize,
            buffers_bytes=0,
            loading_bytes=_shard_bytes(model),
        )
    text, beyond = model.config.get_text_config(), MOST_ROWS if graphs else 0
    room = room_for(min(positions, model.context) + beyond, model.context + beyond)
    per_position = 2 * kv_heads(text) * head_width(text) * dtype.itemsize
    inner = text.intermediate_size
    per_row = 6 * head.width + 3 * inner + (text.num_attention_heads + 2 * kv_heads(text)) * head_width(text)
    return MemoryPlan(
        name=model.name,
        weights_bytes=weights_bytes,
        cache_bytes=head.layers * per_position * room,
        graphs_bytes=graphs.recorded_bytes(room - beyond) if graphs else 0,
        working_bytes=(room - beyond) * per_row * dtype.itemsize,
        pool_bytes=pool_bytes(text, dtype, graphs.widest_rows, room) + WORKSPACE_BYTES if graphs else 0,
        buffers_bytes=2 * model.context * head_width(text) * dtype.itemsize
        + (static_bytes(text, dtype) if graphs else 0),
        loading_bytes=_shard_bytes(model),
        graphs=graphs.count(room - beyond) if graphs else 0,
    )


def pool_bytes(config: Any, dtype: torch.dtype, rows: int, length: int) -> int:
    """What one captured pass of `rows` works in, over a cache of `length`: its rows as in an eager pass, and of every
    head the scores, the scores with scale and mask, and the softmax of them; the mask itself, by group of heads.

    Graphs of one model share a pool, so that it is the widest one's working memory and not the sum.
    """
    heads, group = config.num_attention_heads, config.num_attention_heads // kv_heads(config)
    return int(rows * row_bytes(config, dtype) + (3 * heads + 2 * group) * rows * length * dtype.itemsize)


def static_bytes(config: Any, dtype: torch.dtype) -> int:
    """The static buffers of a model's graphs: ids, positions and rows, where a pass stands, hidden states in and out,
    masks, and float32 logits, all of the widest pass."""
    whole = 3 * MOST_ROWS + 2
    hidden, masks = 2 * MOST_ROWS * config.hidden_size, MOST_ROWS * sum(MASK_COLUMNS)
    logits = MOST_ROWS * config.vocab_size
    return int(whole * torch.long.itemsize + hidden * dtype.itemsize + masks + logits * torch.float32.itemsize)


def row_bytes(config: Any, dtype: torch.dtype) -> int:
    """What one position of a pass works in: 4 hidden states, query to value, 3 feed-forward rows; its logits."""
    inner = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", 4 * config.hidden_size)
    inner = max(inner) if isinstance(inner, (list, tuple)) else inner  # a width for each layer, as Gemma 3n has
    projected = (config.num_attention_heads + 2 * kv_heads(config)) * head_width(config)
    logits = config.vocab_size * (dtype.itemsize + 2 * torch.float32.itemsize)
    return int((4 * config.hidden_size + projected + 3 * inner) * dtype.itemsize + logits)


def head_row_bytes(config: Any, dtype: torch.dtype, on_host: bool) -> int:
    """Bytes of one row of the head, as passes use it."""
    width = getattr(config, "word_embed_proj_dim", None) or config.hidden_size
    return int(width * (torch.float32 if on_host else dtype).itemsize)


def _float32_head_bytes(config: Any, dtype: torch.dtype) -> tuple[int, int]:
    """What a float32 head takes beyond the weights in `dtype`, and what is held beside it while it is made.

    A head that is the embedding as well is kept with its copy; any other is replaced by it.
    """
    if dtype == torch.float32:
        return 0, 0
    entries = config.vocab_size * (getattr(config, "word_embed_proj_dim", None) or config.hidden_size)
    copied, replaced = entries * torch.float32.itemsize, entries * dtype.itemsize
    return (copied, 0) if config.tie_word_embeddings else (copied - replaced, replaced)


def _parts_bytes(config: Any, dtype: torch.dtype) -> int:
    """The largest matrices beside their concatenation while a layer is loaded: gate and up, or query to value."""
    projected = (config.num_attention_heads + 2 * kv_heads(config)) * head_width(config)
    return int(config.hidden_size * max(2 * config.intermediate_size, projected) * dtype.itemsize)


def _converted_bytes(model: ResolvedModel, dtype: torch.dtype) -> int:
    """The largest tensor in its stored type, beside which it is converted on a GPU (`transfer.loaded_to`)."""
    stored = None if model.shape else getattr(model.config, "dtype", None)
    if not isinstance(stored, torch.dtype) or stored == dtype or stored.itemsize > dtype.itemsize:
        return 0
    return int(model.rows * model.width * stored.itemsize)


def _block_bytes(model: ResolvedModel, dtype: torch.dtype) -> int:
    """Exact where the config says every tensor; else twice the mean of a layer, which holds for shallow models too."""
    if model.has_layer_ranges:
        layer = sum(prod(shape) for shape in layer_shapes(model.config).values())
        return int(max(layer, model.rows * model.config.hidden_size) * dtype.itemsize)
    return int(2 * _weights_bytes(model, dtype) // max(1, model.depth))


def _shard_bytes(model: ResolvedModel) -> int:
    """The largest weight file that is read whole; safetensors are mapped."""
    return max((file.stat().st_size for file in model.weights.files if file.suffix in (".bin", ".pt")), default=0)


def _weights_bytes(model: ResolvedModel, dtype: torch.dtype) -> int:
    """Exact where the config says every tensor; else by the files, which hold numbers of a type of their own."""
    if model.has_layer_ranges:
        return parameters(model.config) * dtype.itemsize
    stored = sum(file.stat().st_size for file in model.weights.files)
    if quantisation(model.config):
        return stored
    return stored * dtype.itemsize // getattr(model.config.dtype, "itemsize", torch.float16.itemsize)


def gb(size: int) -> str:
    """In units of 1e9 bytes, with enough digits to tell small models apart."""
    return f"{size / 1e9:.1f}" if size >= 1e9 else f"{size / 1e9:.3f}"
