"""The CUDA graph engine: a pass of fixed shape is captured once and then repeated as a single call (docs/gpu.md).

The passes that decoders declare (`prepare`) are captured for every length bucket of the reserved cache, so that nothing
is captured while it is timed; `facts` counts captures. Before use, graphs are compared with the eager engine
(`trial.py`): first those of compiled layers, then those of plain ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import Likeliest, PassKind
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.devices import free_bytes_before_capture
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.base import Engine, Request
from specbench_s2d.models.engines.capture import Capture, CudaCapture, Work
from specbench_s2d.models.engines.compiled import compiled_functions, why_not_compiled
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.graph_keys import (
    MASK_COLUMNS,
    MOST_ROWS,
    NARROW_ROWS,
    ROWS,
    UNDECLARED_ROWS,
    GraphKey,
    GraphKind,
    buckets,
    declared_rows,
    fits,
    key_of,
    keys_of,
    rounded_rows,
)
from specbench_s2d.models.engines.layer import PLAIN, PassFunctions
from specbench_s2d.models.engines.static_pass import StaticPass
from specbench_s2d.models.engines.trial import why_not_trusted
from specbench_s2d.models.graph_memory import GraphMeter
from specbench_s2d.models.head import HeadRows
from specbench_s2d.models.weights import LlamaWeights

_UNDECLARED = tuple(rows for rows in ROWS if rows <= UNDECLARED_ROWS)


class CudaGraphEngine(Engine):
    """Narrow passes as captured graphs over one static cache; prompts and very wide passes run eagerly over the same.

    `asked`: the engine that the user named, None for the default. `model`: the model's name, for error messages.
    `capture`: makes the source of captures, by default of CUDA graphs. `compiled`: functions of a pass, by default
    torch.compile's where it is available. `plain`: the functions otherwise. `free_bytes`: reads the device's free
    memory, by default from the GPU's driver. `lengths`: the length buckets of a capacity, by default
    `graph_keys.buckets`. `heads`: as in `EagerEngine`.
    The trial takes place when the cache is first reserved, but not for passes that run eagerly. Where graphs fail it,
    `ModelError` is raised if the engine was named, and passes run eagerly if not. Declared graphs that will not fit in
    free memory raise `ModelError`. Returned tensors are the caller's own: a later pass does not change them.
    """

    def __init__(
        self,
        weights: LlamaWeights,
        asked: str | None = None,
        model: str = "the model",
        capture: Callable[[], Capture] | None = None,
        compiled: PassFunctions | None = None,
        plain: PassFunctions = PLAIN,
        free_bytes: Callable[[], int] | None = None,
        lengths: Callable[[int], tuple[int, ...]] | None = None,
        heads: HeadRows | None = None,
    ) -> None:
        device, dtype = weights.embedding_VD.device, weights.embedding_VD.dtype
        self._new_capture = capture or partial(CudaCapture, device)
        self._capture: Capture = self._new_capture()
        if free_bytes is None and device.type == "cuda":
            free_bytes = partial(free_bytes_before_capture, str(device))
        self._meter, self._model_name, self._free_bytes = GraphMeter(model, free_bytes), model, free_bytes
        self._depth, self._context, self._weights = len(weights.layers), weights.context, weights
        self._asked, self._compiled, self._plain, self._lengths = asked, compiled, plain, lengths or buckets
        self._why_not_compiled = None if compiled else why_not_compiled(device)
        self._why_eager: str | None = None
        # Padding rows of a graph are written after the end.
        limit = weights.context + MOST_ROWS
        self._eager = EagerEngine(weights, heads=heads)
        self._eager.cache = self.cache = KVCache(
            self._depth, weights.kv_heads, weights.head_width, limit, device, dtype
        )
        self._static: StaticPass | None = None
        self._eagerly, self._on_trial = False, False
        self._declared: dict[GraphKind, set[int]] = {}
        self._graphs: dict[GraphKey, Work] = {}
        self._buckets: tuple[int, ...] = ()
        self._captures, self._capture_s, self._undeclared = 0, 0.0, 0

    @property
    def name(self) -> str:
        return "eager" if self._why_eager else "cuda-graphs"

    def run(self, request: Request) -> Tensor:
        kind = self._kind(request)
        if not self._is_graph(request, kind):
            return self._eager.run(request)
        static, first = self._replay(request, kind), request.new - 1 if request.last_only else 0
        if kind.logits:
            return static.logits(first, request.new, kind.vocabulary)
        return static.states(first, request.new)

    def read(self, request: Request) -> tuple[Tensor | None, Likeliest]:
        kind = self._kind(request)
        if not self._is_graph(request, kind):
            return self._eager.read(request)
        static = self._replay(request, kind)
        best = static.best(kind, request.new - request.rows, request.new)
        return static.states(0, request.new) if kind.states else None, best

    def head(self, hidden_TD: Tensor, vocabulary: DraftVocabulary | None = None, *, final: bool = False) -> Tensor:
        if final:
            return self._eager.head(hidden_TD, vocabulary, final=True)
        request = Request(hidden_TD, 0, self._depth, self._depth, head=True, vocabulary=vocabulary)
        kind = self._kind(request)
        if not self._is_graph(request, kind):
            return self._eager.head(hidden_TD, vocabulary)
        return self._replay(request, kind).logits(0, request.new, kind.vocabulary)

    def embed(self, ids_T: Tensor) -> Tensor:
        return self._eager.embed(ids_T)

    def for_head(self, weights: LlamaWeights) -> CudaGraphEngine:
        return CudaGraphEngine(
            weights.beside(self._weights), self._asked, f"{self._model_name}'s draft head", self._new_capture,
            self._compiled, self._plain, self._free_bytes, self._lengths,
            self._eager.heads if weights.ids is None else None,
        )  # fmt: skip

    def reserve(self, length: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            if self.cache.reserve(min(length, self._context) + MOST_ROWS):
                self._forget_graphs()
                self._buckets = self._lengths(self.cache.capacity - MOST_ROWS)  # no pass ends beyond
            if self._static is None and not self._why_eager and not self._eagerly:
                self._choose_functions()

    def prepare(self, kinds: Iterable[PassKind]) -> None:
        for kind, rows in declared_rows(kinds, self._depth).items():
            self._declared.setdefault(kind, set()).update(rows)
        if self._static is not None:
            for kind, rows in self._declared.items():
                self._capture_missing(self._static, keys_of(kind, rows, self._buckets))

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        before, self._eagerly = self._eagerly, True
        try:
            yield
        finally:
            self._eagerly = before

    def facts(self) -> dict[str, Any]:
        """`captures`: graphs captured since the model was loaded. `capture_s`: their seconds, compilation included.
        `graph_bytes_measured`: their memory, the pool included. `unannounced`: narrow passes that ran eagerly because
        no decoder had declared them."""
        return {
            "compiled": self._why_not_compiled is None,
            "why_not_compiled": self._why_not_compiled,
            **({"why_eager": self._why_eager} if self._why_eager else {}),
            "buckets": list(self._buckets),
            "graphs": len(self._graphs),
            "captures": self._captures,
            "capture_s": round(self._capture_s, 3),
            **self._meter.facts(),
            "unannounced": self._undeclared,
        }

    def _choose_functions(self) -> None:
        """Choose graphs of compiled layers, graphs of plain layers, or no graphs: the first that passes the trial."""
        if self._why_not_compiled is None:
            self._why_not_compiled = self._try(self._compiled or compiled_functions())
        if self._why_not_compiled is not None:
            self._why_eager = self._try(self._plain)
        if self._why_eager is None:
            return
        self._static = None
        self._forget_graphs()
        if self._asked is not None:
            raise ModelError(f"--engine {self._asked}: {self._why_eager}; use --engine eager.")

    def _try(self, functions: PassFunctions) -> str | None:
        """Use graphs of these functions from now on; returns why they are not trusted, or None."""
        self._forget_graphs()
        self._static, self._on_trial = StaticPass(self._weights, self.cache, functions, self._eager.heads), True
        try:
            return why_not_trusted(self, self._eager, self._buckets[-1])
        finally:
            self._on_trial = False

    def _forget_graphs(self) -> None:
        """Release all graphs; those that are captured next take over their memory."""
        self._graphs.clear()

    def _is_graph(self, request: Request, kind: GraphKind) -> bool:
        """Whether a pass runs as a graph: its shape repeats, and a graph of it is declared."""
        if self._on_trial:
            return True
        if self._static is None or self._eagerly or not fits(request):
            return False
        declared = self._rows(request, kind) is not None
        self._undeclared += not declared and request.new <= NARROW_ROWS
        return declared

    def _rows(self, request: Request, kind: GraphKind) -> int | None:
        """The rows of the graph of a pass: the fewest declared that are enough, None where there is no such graph."""
        if self._on_trial:
            return rounded_rows(request.new)
        return min((rows for rows in self._rows_of(kind) if rows >= request.new), default=None)

    def _rows_of(self, kind: GraphKind) -> Collection[int]:
        """The rows of a kind's graphs; those of narrow passes where nothing is declared at all."""
        return self._declared.get(kind, () if self._declared else _UNDECLARED)

    def _kind(self, request: Request) -> GraphKind:
        """The declared kind that a request belongs to, possibly with a wider mask; else its own kind."""
        own = GraphKind.of(request)
        wider = (replace(own, mask_columns=columns) for columns in MASK_COLUMNS if columns >= own.mask_columns > 0)
        return next((kind for kind in wider if kind in self._declared), own)

    def _replay(self, request: Request, kind: GraphKind) -> StaticPass:
        assert self._static is not None
        rows = self._rows(request, kind)
        assert rows is not None, "a pass without a graph runs eagerly"
        key = replace(key_of(request, kind, self._buckets), rows=rows)
        if key not in self._graphs:
            keys = [key] if self._on_trial else keys_of(kind, self._rows_of(kind), self._buckets)
            self._capture_missing(self._static, keys)
        self._static.fill(request, kind)
        self._graphs[key]()
        return self._static

    def _capture_missing(self, static: StaticPass, keys: Iterable[GraphKey]) -> None:
        """Capture those of the graphs that do not exist yet."""
        missing = [key for key in keys if key not in self._graphs]
        if not missing:
            return
        started = perf_counter()
        self._meter.capture(partial(self._capture_all, static, missing), len(missing), self._left(missing))
        self._captures += len(missing)
        self._capture_s += perf_counter() - started

    def _capture_all(self, static: StaticPass, keys: Iterable[GraphKey]) -> None:
        with torch.inference_mode(False), torch.no_grad():
            static.move_to_padding(self.cache.capacity)
            for key in keys:
                static.allocate(key.kind)
                self._graphs[key] = self._capture.capture(partial(static.compute, key))

    def _left(self, batch: Iterable[GraphKey]) -> int:
        """The number of declared graphs that do not exist after this batch of captures."""
        if self._on_trial:
            return 0
        declared = {key for kind, rows in self._declared.items() for key in keys_of(kind, rows, self._buckets)}
        return len(declared - self._graphs.keys() - set(batch))
