"""The graph engine of a GPU: a pass of fixed shape is captured once and is one call ever after.

What decoders will ask for is announced (`prepare`) and captured for every length of the cache that is reserved, so that
nothing is captured while it is timed; `facts` counts what was captured all the same. Graphs are tried against the eager
engine before they are trusted (`trial.py`): first with compiled layers, then with plain ones. Designed to make a pass
one call on a GPU; not measured on one.
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
from specbench_s2d.models.devices import settled_free_bytes
from specbench_s2d.models.engines.base import Request
from specbench_s2d.models.engines.capture import Capture, CudaCapture, Work
from specbench_s2d.models.engines.compiled import compiled_functions, why_not_compiled
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.graph_keys import (
    MASK_COLUMNS,
    MOST_ROWS,
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
from specbench_s2d.models.weights import LlamaWeights


def _itself(capture: Capture) -> Capture:
    return capture


_AHEAD = tuple(rows for rows in ROWS if rows <= UNDECLARED_ROWS)


class CudaGraphEngine:
    """Narrow passes as captured graphs over one static cache; prompts and the widest passes run eagerly over the same.

    `capture` defaults to CUDA graphs, `compiled` to torch.compile's functions where those can be. Which functions
    graphs are made of, or that there are none, is settled when room is first reserved; with `must` (graphs were asked
    for by name) the last of these raises `ModelError`, and so do graphs that were announced and will not fit in what is
    free (`free_bytes`, of a GPU by default its driver's word). What is returned is the caller's own: a later pass does
    not change it.
    """

    torch_threads: int | None = None

    def __init__(
        self,
        weights: LlamaWeights,
        capture: Capture | None = None,
        must: bool = False,
        compiled: PassFunctions | None = None,
        name: str = "the model",
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        device, dtype = weights.embedding_VD.device, weights.embedding_VD.dtype
        self._new_capture: Callable[[], Capture] = partial(CudaCapture, device)
        if capture is not None:
            self._new_capture = partial(_itself, capture)
        self._capture: Capture = self._new_capture()
        if free_bytes is None and device.type == "cuda":
            free_bytes = partial(settled_free_bytes, str(device))
        self._meter = GraphMeter(name, free_bytes)
        self._depth, self._context, self._weights = len(weights.layers), weights.context, weights
        self._must, self._compiled = must, compiled
        self._why_not_compiled = None if compiled else why_not_compiled(device)
        self._why_eager: str | None = None
        # Rows beyond those asked for are written after the end.
        limit = weights.context + MOST_ROWS
        self._eager = EagerEngine(weights)
        self._eager.cache = self.cache = KVCache(
            self._depth, weights.kv_heads, weights.head_width, limit, device, dtype
        )
        self._static: StaticPass | None = None
        self._eagerly, self._trying = False, False
        self._announced: dict[GraphKind, set[int]] = {}
        self._graphs: dict[GraphKey, Work] = {}
        self._buckets: tuple[int, ...] = ()
        self._captures, self._capture_s, self._unannounced = 0, 0.0, 0

    @property
    def engine(self) -> str:
        return "eager" if self._why_eager else "graphs"

    def run(self, request: Request) -> Tensor:
        kind = self._kind(request)
        if not self._is_graph(request, kind):
            return self._eager.run(request)
        static, first = self._replay(request, kind), request.new - 1 if request.last_only else 0
        return static.logits(first, request.new) if kind.logits else static.states(first, request.new)

    def read(self, request: Request) -> tuple[Tensor | None, Likeliest]:
        kind = self._kind(request)
        if not self._is_graph(request, kind):
            return self._eager.read(request)
        static = self._replay(request, kind)
        best = static.best(kind, request.new - request.rows, request.new)
        return static.states(0, request.new) if kind.states else None, best

    def head(self, hidden_TD: Tensor) -> Tensor:
        request = Request(hidden_TD, 0, self._depth, self._depth, head=True)
        kind = self._kind(request)
        if not self._is_graph(request, kind):
            return self._eager.head(hidden_TD)
        return self._replay(request, kind).logits(0, request.new)

    def reserve(self, length: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            if not self.cache.reserve(min(length, self._context) + MOST_ROWS):
                return
            self._forget_graphs()
            self._buckets = buckets(self.cache.capacity - MOST_ROWS)  # no pass ends beyond
            if self._static is None and not self._why_eager:
                self._choose_functions()

    def prepare(self, kinds: Iterable[PassKind]) -> None:
        for kind, rows in declared_rows(kinds, self._depth).items():
            self._announced.setdefault(kind, set()).update(rows)
        if self._static is not None:
            for kind, rows in self._announced.items():
                self._capture_missing(self._static, keys_of(kind, rows, self._buckets))

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        before, self._eagerly = self._eagerly, True
        try:
            yield
        finally:
            self._eagerly = before

    def facts(self) -> dict[str, Any]:
        """`captures`: graphs captured since the model was loaded; `capture_s`: what they took, compiling included;
        `graph_bytes_measured`: what they took of the device's memory, what torch holds for their pool included.
        `unannounced`: narrow passes that ran eagerly, for nobody had announced them."""
        return {
            "compiled": self._why_not_compiled is None,
            "why_not_compiled": self._why_not_compiled,
            **({"why_eager": self._why_eager} if self._why_eager else {}),
            "buckets": list(self._buckets),
            "graphs": len(self._graphs),
            "captures": self._captures,
            "capture_s": round(self._capture_s, 3),
            **self._meter.facts(),
            "unannounced": self._unannounced,
        }

    def _choose_functions(self) -> None:
        """Compiled graphs, plain graphs, eager: the first that computes what the eager engine does; why not the others
        is kept."""
        if self._why_not_compiled is None:
            self._why_not_compiled = self._against(self._compiled or compiled_functions())
        if self._why_not_compiled is not None:
            self._why_eager = self._against(PLAIN)
        if self._why_eager is None:
            return
        self._static = None
        self._forget_graphs()
        if self._must:
            raise ModelError(f"--engine graphs: {self._why_eager}; use --engine eager.")

    def _against(self, functions: PassFunctions) -> str | None:
        """What stands against graphs of these functions, None where nothing does: they are then in force."""
        self._forget_graphs()
        self._static, self._trying = StaticPass(self._weights, self.cache, functions), True
        try:
            return why_not_trusted(self, self._eager, self._buckets[-1])
        finally:
            self._trying = False

    def _forget_graphs(self) -> None:
        """Let go of all graphs and of the pool they share: one whose capture failed, or that none uses, is not to be
        captured into again."""
        self._graphs.clear()
        self._capture = self._new_capture()

    def _is_graph(self, request: Request, kind: GraphKind) -> bool:
        """Whether a pass is run as a graph: it repeats, and it was announced, or is as narrow as chains are."""
        if self._trying:
            return True
        if self._static is None or self._eagerly or not fits(request):
            return False
        announced = self._rows(request, kind) is not None
        self._unannounced += not announced
        return announced

    def _rows(self, request: Request, kind: GraphKind) -> int | None:
        """The rows of the graph that a pass runs as: the fewest announced that hold it, None where none does."""
        if self._trying:
            return rounded_rows(request.new)
        return min((rows for rows in self._rows_of(kind) if rows >= request.new), default=None)

    def _rows_of(self, kind: GraphKind) -> Collection[int]:
        """Rows of the passes of a kind that are graphs; where nobody announces anything, those of most drafts."""
        return self._announced.get(kind, () if self._announced else _AHEAD)

    def _kind(self, request: Request) -> GraphKind:
        """The announced kind that a request belongs to, its mask perhaps wider; else its own."""
        own = GraphKind.of(request)
        wider = (replace(own, mask_columns=columns) for columns in MASK_COLUMNS if columns >= own.mask_columns > 0)
        return next((kind for kind in wider if kind in self._announced), own)

    def _replay(self, request: Request, kind: GraphKind) -> StaticPass:
        assert self._static is not None
        rows = self._rows(request, kind)
        assert rows is not None, "a pass that no graph holds runs eagerly"
        shape = replace(key_of(request, kind, self._buckets), rows=rows)
        if shape not in self._graphs:
            shapes = [shape] if self._trying else keys_of(kind, self._rows_of(kind), self._buckets)
            self._capture_missing(self._static, shapes)
        self._static.fill(request, kind)
        self._graphs[shape]()
        return self._static

    def _capture_missing(self, static: StaticPass, shapes: Iterable[GraphKey]) -> None:
        """Capture those of `shapes` that are not yet: at the cache's last positions, which hold nothing then."""
        missing = [shape for shape in shapes if shape not in self._graphs]
        if not missing:
            return
        started = perf_counter()
        self._meter.capture(partial(self._capture_all, static, missing), len(missing), self._left(missing))
        self._captures += len(missing)
        self._capture_s += perf_counter() - started

    def _capture_all(self, static: StaticPass, shapes: Iterable[GraphKey]) -> None:
        with torch.inference_mode(False), torch.no_grad():
            static.write_elsewhere(self.cache.capacity)
            for shape in shapes:
                static.make_room(shape.kind)
                self._graphs[shape] = self._capture.capture(partial(static.compute, shape))

    def _left(self, about: Iterable[GraphKey]) -> int:
        """Announced graphs that are not there yet, but for those that are about to be captured."""
        if self._trying:
            return 0
        wanted = {s for kind, rows in self._announced.items() for s in keys_of(kind, rows, self._buckets)}
        return len(wanted - self._graphs.keys() - set(about))
