"""A pass of fixed shape over buffers that stay where they are: what a graph records. Shapes: see `models/base.py`.

Where the pass stands is read from the buffers, on the device; nothing here waits for it. Rows beyond those asked for
(a shape is rounded up) compute what nobody reads, at positions after the end, which later passes overwrite unseen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.base import Likeliest
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.engines.base import Request
from specbench_s2d.models.engines.graph_keys import MASK_COLUMNS, MOST_ROWS, GraphKey, GraphKind
from specbench_s2d.models.engines.layer import PLAIN, AttentionInputs, PassFunctions, Sizes, Tables, TreeMask
from specbench_s2d.models.transfer import to_device
from specbench_s2d.models.weights import LlamaWeights


class StaticPass:
    """The buffers of one model, and the pass over them: `fill`, then `compute`, then `states`, `logits`, `best`."""

    def __init__(self, weights: LlamaWeights, cache: KVCache, functions: PassFunctions = PLAIN) -> None:
        self._weights, self._cache, self._functions = weights, cache, functions
        self._sizes = Sizes.of(weights)
        self._tables = Tables(weights.cos_SC, weights.sin_SC, weights.heads // weights.kv_heads)
        device, dtype = weights.embedding_VD.device, weights.embedding_VD.dtype
        # Where the pass starts; under a mask also its rows and the columns of it that are in use.
        self._place_3 = torch.zeros(3, dtype=torch.long, device=device)
        self._start_1, self._rows_1, self._seen_1 = self._place_3.split(1)
        self._ids_T = torch.zeros(MOST_ROWS, dtype=torch.long, device=device)
        self._rows_T = torch.arange(MOST_ROWS, device=device)
        self._hidden_TD = torch.zeros(MOST_ROWS, weights.width, device=device, dtype=dtype)
        self._masks = {
            columns: torch.zeros(MOST_ROWS, columns, dtype=torch.bool, device=device) for columns in MASK_COLUMNS
        }
        self._out_TD = torch.zeros_like(self._hidden_TD)
        self._logits_TV = torch.zeros(MOST_ROWS, weights.vocabulary, device=device)
        self._best_2TK: dict[int, Tensor] = {}

    def make_room(self, kind: GraphKind) -> None:
        """Buffers that this kind alone needs, made before it is captured."""
        if kind.best and kind.best not in self._best_2TK:
            width = min(kind.best, self._weights.vocabulary)
            self._best_2TK[kind.best] = torch.zeros(2, MOST_ROWS, width, device=self._ids_T.device)

    def write_elsewhere(self, capacity: int) -> None:
        """Stand where a capture's first run, which is a real one, leaves nothing that is read: at the end of a cache of
        `capacity` positions, in the rows beyond the context."""
        self._place_3.copy_(to_device([capacity - MOST_ROWS, MOST_ROWS, MOST_ROWS], self._place_3.device))

    def fill(self, request: Request, kind: GraphKind) -> None:
        """Copy a request's inputs to the buffers, on the device."""
        rows = request.new
        (self._hidden_TD if kind.hidden else self._ids_T)[:rows].copy_(request.inputs)
        if request.mask is None:
            self._start_1.fill_(request.start)
            return
        seen = request.mask.shape[1]
        self._place_3.copy_(to_device([request.start, rows, seen], self._place_3.device))
        self._masks[kind.mask_columns][:rows, :seen].copy_(request.mask)

    def compute(self, shape: GraphKey) -> None:
        """The pass itself, from the buffers to the buffers."""
        kind, rows, w = shape.kind, shape.rows, self._weights
        hidden_TD = self._hidden_TD[:rows] if kind.hidden else F.embedding(self._ids_T[:rows], w.embedding_VD)
        if kind.layers:
            place = self._place(shape)
            for index in kind.layers:
                keys_KSC, values_KSC = self._cache.layers[index]
                hidden_TD = self._functions.run_layer(
                    hidden_TD, place, keys_KSC, values_KSC, w.layers[index], self._sizes
                )
        if kind.states:
            self._out_TD[:rows].copy_(hidden_TD)
        if kind.head:
            logits_TV = self._functions.run_head(hidden_TD, w.norm_D, w.head_VD, w.eps)
            if kind.logits:
                self._logits_TV[:rows].copy_(logits_TV)
            if kind.best:
                self._best_2TK[kind.best][:, :rows].copy_(Likeliest.of(logits_TV, kind.best).packed_2RK)

    def states(self, first: int, end: int) -> Tensor:
        """A copy of the states that the last pass left at some rows: the next one overwrites them, and decoders keep
        theirs."""
        return self._out_TD[first:end].clone()

    def logits(self, first: int, end: int) -> Tensor:
        """A copy of its logits, a small kernel: 0.1 MB for a row of 32,000."""
        return self._logits_TV[first:end].clone()

    def best(self, kind: GraphKind, first: int, end: int) -> Likeliest:
        """A copy of the likeliest tokens after rows `first` to `end`."""
        return Likeliest(self._best_2TK[kind.best][:, first:end].clone())

    def _place(self, shape: GraphKey) -> AttentionInputs:
        rows, columns, tree = shape.rows, shape.kind.mask_columns, None
        if columns:
            tree = TreeMask(self._masks[columns][:rows], self._seen_1, self._rows_1)
        cached_S = torch.arange(shape.bucket, device=self._start_1.device)
        return self._functions.attention_inputs(self._rows_T[:rows], self._start_1, cached_S, tree, self._tables)
