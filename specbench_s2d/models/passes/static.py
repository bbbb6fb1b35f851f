"""A pass of fixed shape over buffers that stay where they are: what a graph records. Shapes: see `models/base.py`.

Where the pass stands is read from the buffers, on the device; nothing here waits for it. Rows beyond those asked for
(a shape is rounded up) compute what nobody reads, at positions after the end, which later passes overwrite unseen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.passes.base import Request
from specbench_s2d.models.passes.layer import PLAIN, Functions, Place, Sizes, Tables, Tree
from specbench_s2d.models.passes.shapes import MASK_COLUMNS, MOST_ROWS, Kind, Shape
from specbench_s2d.models.weights import LlamaWeights


class StaticPass:
    """The buffers of one model, and the pass over them: `fill`, then `compute`, then `outputs`."""

    def __init__(self, weights: LlamaWeights, cache: KVCache, functions: Functions = PLAIN) -> None:
        self._weights, self._cache, self._functions = weights, cache, functions
        self._sizes = Sizes.of(weights)
        self._tables = Tables(weights.cos_SC, weights.sin_SC, weights.heads // weights.kv_heads)
        device, dtype = weights.embedding_VD.device, weights.embedding_VD.dtype

        def whole(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.long, device=device)

        self._start_1, self._base_1 = whole(1), whole(1)
        self._ids_T, self._positions_T = whole(MOST_ROWS), whole(MOST_ROWS)
        self._rows_T = torch.arange(MOST_ROWS, device=device)
        self._hidden_TD = torch.zeros(MOST_ROWS, weights.width, device=device, dtype=dtype)
        self._masks = {
            columns: torch.zeros(MOST_ROWS, columns, dtype=torch.bool, device=device) for columns in MASK_COLUMNS
        }
        self._out_TD = torch.zeros_like(self._hidden_TD)
        self._logits_TV = torch.zeros(MOST_ROWS, weights.vocabulary, device=device)

    def fill(self, request: Request, kind: Kind) -> None:
        """Copy a request's inputs to the buffers, on the device."""
        rows = request.new
        (self._hidden_TD if kind.hidden else self._ids_T)[:rows].copy_(request.inputs, non_blocking=True)
        self._start_1.fill_(request.start)
        if not kind.mask_columns:
            return
        mask_TM, positions_T = request.mask, request.positions
        if mask_TM is None:
            mask_TM = self._rows_T[:rows] <= self._rows_T[:rows, None]
        if positions_T is None:
            positions_T = self._rows_T[:rows] + request.start
        seen, mask_TW = mask_TM.shape[1], self._masks[kind.mask_columns]
        self._base_1.fill_(request.end - seen)
        self._positions_T[:rows].copy_(positions_T, non_blocking=True)
        mask_TW[:rows].zero_()
        mask_TW[:rows, :seen].copy_(mask_TM, non_blocking=True)
        mask_TW[rows:].fill_(True)  # a row that saw nothing would leave no number in the cache

    def compute(self, shape: Shape) -> None:
        """The pass itself, from the buffers to the buffers."""
        kind, rows = shape.kind, shape.rows
        hidden_TD = self._hidden_TD[:rows]
        if not kind.hidden:
            hidden_TD = F.embedding(self._ids_T[:rows], self._weights.embedding_VD)
        if kind.layers:
            place = self._place(shape)
            for index in kind.layers:
                keys_KSC, values_KSC = self._cache.layers[index]
                layer = self._weights.layers[index]
                hidden_TD = self._functions.run_layer(hidden_TD, place, keys_KSC, values_KSC, layer, self._sizes)
        if kind.head:
            w = self._weights
            self._logits_TV[:rows].copy_(self._functions.run_head(hidden_TD, w.norm_D, w.head_VD, w.eps))
        else:
            self._out_TD[:rows].copy_(hidden_TD)

    def outputs(self, kind: Kind, rows: int) -> Tensor:
        """A copy of what the last pass left: the next one overwrites it, and decoders keep what they are given.

        It is one small kernel: 0.1 MB for a row of 32,000 logits; not measured.
        """
        return (self._logits_TV if kind.head else self._out_TD)[:rows].clone()

    def _place(self, shape: Shape) -> Place:
        rows, columns, tree = shape.rows, shape.kind.mask_columns, None
        if columns:
            tree = Tree(self._masks[columns][:rows], self._base_1, self._positions_T[:rows])
        cached_S = torch.arange(shape.bucket, device=self._start_1.device)
        return self._functions.find_place(self._rows_T[:rows], self._start_1, cached_S, tree, self._tables)
