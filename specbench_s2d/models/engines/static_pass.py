"""A pass of fixed shape over fixed buffers, the work that a graph captures. Shapes: see `models/base.py`.

The position of the pass is read from the buffers on the device, so the host never waits. Rows that pad a request to the
graph's shape write after the end of the sequence, to slots that later passes overwrite before they are read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.base import Likeliest
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.base import Request
from specbench_s2d.models.engines.graph_keys import MASK_COLUMNS, MOST_ROWS, GraphKey, GraphKind
from specbench_s2d.models.engines.layer import PLAIN, AttentionInputs, PassFunctions, Sizes, Tables, TreeMask
from specbench_s2d.models.head import HeadRows
from specbench_s2d.models.transfer import to_device
from specbench_s2d.models.weights import LlamaWeights


class StaticPass:
    """The buffers of one model and the pass over them: `fill`, `compute`, then `states`, `logits` or `best`.

    Buffers: `start_1`, the first position; `masks`, by columns; `out_TD`, `logits_TV` and `best_2TK` (by the number of
    likeliest tokens), the results. `cache`: where keys and values are written. `heads`: the head, and those of small
    vocabularies; by default its own.
    """

    def __init__(
        self, weights: LlamaWeights, cache: KVCache, functions: PassFunctions = PLAIN, heads: HeadRows | None = None
    ) -> None:
        self._weights, self.cache, self._functions = weights, cache, functions
        self._heads = heads or HeadRows(weights.head_VD, weights.ids)
        self._sizes = Sizes.of(weights)
        self._tables = Tables(weights.cos_SC, weights.sin_SC, weights.heads // weights.kv_heads)
        device, dtype = weights.embedding_VD.device, weights.embedding_VD.dtype
        # The first position of the pass; under a mask, also its rows and the columns in use.
        self._span_3 = torch.zeros(3, dtype=torch.long, device=device)
        self.start_1, self._rows_1, self._seen_1 = self._span_3.split(1)
        self._ids_T = torch.zeros(MOST_ROWS, dtype=torch.long, device=device)
        self._rows_T = torch.arange(MOST_ROWS, device=device)
        self._hidden_TD = torch.zeros(MOST_ROWS, weights.width, device=device, dtype=dtype)  # or a draft head's states
        self.masks = {
            columns: torch.zeros(MOST_ROWS, columns, dtype=torch.bool, device=device) for columns in MASK_COLUMNS
        }
        self.out_TD = torch.zeros_like(self._hidden_TD)
        self.logits_TV = torch.zeros(MOST_ROWS, weights.vocabulary, device=device)
        self.best_2TK: dict[int, Tensor] = {}

    def allocate(self, kind: GraphKind) -> None:
        """Allocate the buffers of a kind, and copy its head's rows, before it is captured."""
        self._heads.of(kind.vocabulary)
        if kind.best and kind.best not in self.best_2TK:
            width = min(kind.best, self._weights.vocabulary)
            self.best_2TK[kind.best] = torch.zeros(2, MOST_ROWS, width, device=self._ids_T.device)

    def move_to_padding(self, capacity: int) -> None:
        """Start the pass at the padding slots at the end of a cache of `capacity` positions, which are never read: the
        first run of a capture writes to the cache."""
        self._span_3.copy_(to_device([capacity - MOST_ROWS, MOST_ROWS, MOST_ROWS], self._span_3.device))

    def fill(self, request: Request, kind: GraphKind) -> None:
        """Copy the inputs of a request to the buffers, on the device."""
        rows = request.new
        (self._hidden_TD if kind.hidden else self._ids_T)[:rows].copy_(request.inputs)
        if request.states is not None:
            self._hidden_TD[:rows].copy_(request.states)
        if request.mask is None:
            self.start_1.fill_(request.start)
            return
        seen = request.mask.shape[1]
        self._span_3.copy_(to_device([request.start, rows, seen], self._span_3.device))
        self.masks[kind.mask_columns][:rows, :seen].copy_(request.mask)

    def compute(self, key: GraphKey) -> None:
        """The pass itself, from buffers to buffers."""
        kind, rows, w = key.kind, key.rows, self._weights
        hidden_TD, attended_TX = self._hidden_TD[:rows], None
        if not kind.hidden:
            embedded_TD = F.embedding(self._ids_T[:rows], w.embedding_VD)
            hidden_TD, attended_TX = w.joined(embedded_TD, hidden_TD) if w.reads_states else (embedded_TD, None)
        if kind.layers:
            inputs = self._attention_inputs(key)
            for index in kind.layers:
                keys_KSC, values_KSC = self.cache.layers[index]
                hidden_TD = self._functions.run_layer(
                    hidden_TD, inputs, keys_KSC, values_KSC, w.layers[index], self._sizes, attended_TX
                )
                attended_TX = None
        if kind.states:
            self.out_TD[:rows].copy_(hidden_TD)
        if kind.head:
            logits_TX = self._functions.run_head(hidden_TD, w.norm_D, self._heads.of(kind.vocabulary), w.eps)
            logits_TX = logits_TX[:, : w.vocabulary]  # padding rows left out
            if kind.logits:
                self.logits_TV[:rows, : logits_TX.shape[1]].copy_(logits_TX)
            if kind.best:
                likeliest = Likeliest.of(logits_TX, kind.best, kind.vocabulary)
                self.best_2TK[kind.best][:, :rows].copy_(likeliest.packed_2RK)

    def states(self, first: int, end: int) -> Tensor:
        """A copy of the last pass's hidden states at rows `first` to `end`; the next pass overwrites the buffer."""
        return self.out_TD[first:end].clone()

    def logits(self, first: int, end: int, vocabulary: DraftVocabulary | None = None) -> Tensor:
        """A copy of the last pass's logits at rows `first` to `end`, (R, V or N): 0.1 MB for a row of 32,000."""
        width = len(vocabulary) if vocabulary else self._weights.vocabulary
        return self.logits_TV[first:end, :width].clone()

    def best(self, kind: GraphKind, first: int, end: int) -> Likeliest:
        """A copy of the last pass's likeliest tokens after rows `first` to `end`."""
        return Likeliest(self.best_2TK[kind.best][:, first:end].clone())

    def _attention_inputs(self, key: GraphKey) -> AttentionInputs:
        rows, columns, tree = key.rows, key.kind.mask_columns, None
        if columns:
            tree = TreeMask(self.masks[columns][:rows], self._seen_1, self._rows_1)
        cached_S = torch.arange(key.bucket, device=self.start_1.device)
        return self._functions.attention_inputs(self._rows_T[:rows], self.start_1, cached_S, tree, self._tables)
