"""The graph engine of a GPU (designed for one, not measured): a pass of fixed shape is captured, and then one call.

A kind of pass that is met is captured at once for every length of the cache that is reserved, so that a decoder that
was warmed up meets no new graph while it is timed; `facts` counts what was captured all the same.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.passes.base import Request
from specbench_s2d.models.passes.capture import Capture, CudaCapture, Work
from specbench_s2d.models.passes.compiled import compiled_functions, why_not_compiled
from specbench_s2d.models.passes.eager import EagerPasses
from specbench_s2d.models.passes.layer import PLAIN
from specbench_s2d.models.passes.shapes import AHEAD_ROWS, MOST_ROWS, ROWS, Kind, Shape, buckets, fits, round_up
from specbench_s2d.models.passes.static import StaticPass
from specbench_s2d.models.weights import LlamaWeights


class GraphPasses:
    """Narrow passes as captured graphs over one static cache; prompts and the widest passes run eagerly over the same.

    `capture` defaults to CUDA graphs. What is returned is the caller's own: a later pass does not change it.
    """

    engine = "graphs"
    torch_threads: int | None = None

    def __init__(self, weights: LlamaWeights, capture: Capture | None = None) -> None:
        device, dtype = weights.embedding_VD.device, weights.embedding_VD.dtype
        self._capture = capture or CudaCapture(device)
        self._depth, self._context = len(weights.layers), weights.context
        self._why_not_compiled = why_not_compiled(device)
        # Rows beyond those asked for are written after the end.
        limit = weights.context + MOST_ROWS
        self._eager = EagerPasses(weights)
        self._eager.cache = self.cache = KVCache(
            self._depth, weights.kv_heads, weights.head_width, limit, device, dtype
        )
        with torch.inference_mode(False):  # buffers that compiled code may write
            functions = PLAIN if self._why_not_compiled else compiled_functions()
            self._static = StaticPass(weights, self.cache, functions)
        self._graphs: dict[Shape, Work] = {}
        self._buckets: tuple[int, ...] = ()
        self._captures, self._capture_s = 0, 0.0

    def run(self, request: Request) -> Tensor:
        if not fits(request):
            return self._eager.run(request)
        if request.last_only and request.new > 1:
            hidden_TD = self._replay(request, Kind.of(request, head=False))
            return self.head(hidden_TD[-1:]) if request.head else hidden_TD[-1:]
        return self._replay(request, Kind.of(request, request.head))

    def head(self, hidden_TD: Tensor) -> Tensor:
        if len(hidden_TD) > MOST_ROWS:
            return self._eager.head(hidden_TD)
        request = Request(hidden_TD, 0, self._depth, self._depth, head=True)
        return self._replay(request, Kind.of(request, head=True))

    def reserve(self, length: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            if self.cache.reserve(min(length, self._context) + MOST_ROWS):
                self._graphs.clear()
                self._buckets = buckets(self.cache.capacity - MOST_ROWS)  # no pass ends beyond

    def facts(self) -> dict[str, Any]:
        """`captures`: graphs captured since the model was loaded; `capture_s`: what they took, compiling included."""
        return {
            "compiled": self._why_not_compiled is None,
            "why_not_compiled": self._why_not_compiled,
            "buckets": list(self._buckets),
            "graphs": len(self._graphs),
            "captures": self._captures,
            "capture_s": round(self._capture_s, 3),
        }

    def _replay(self, request: Request, kind: Kind) -> Tensor:
        self._static.fill(request, kind)
        shape = self._shape(kind, round_up(request.new, ROWS), request.end)
        graph = self._graphs.get(shape)
        if graph is None:
            self._capture_kind(kind, max(shape.rows, AHEAD_ROWS))
            graph = self._graphs[shape]
        graph()
        return self._static.outputs(kind, request.new)

    def _shape(self, kind: Kind, rows: int, end: int) -> Shape:
        """A pass without layers attends to nothing: its shape has no bucket."""
        return Shape(kind, rows, round_up(end, self._buckets) if kind.layers else 0)

    def _capture_kind(self, kind: Kind, most_rows: int) -> None:
        """Capture what is missing of a kind, up to `most_rows`, for every bucket.

        Each is run once first, where the request stands: what it leaves in the cache, the request overwrites.
        """
        started = perf_counter()
        lengths = self._buckets if kind.layers else (0,)
        missing = [
            shape
            for rows in ROWS
            for length in reversed(lengths)
            if rows <= most_rows and (shape := Shape(kind, rows, length)) not in self._graphs
        ]
        with torch.inference_mode(False), torch.no_grad():
            for shape in missing:
                self._graphs[shape] = self._capture.capture(partial(self._static.compute, shape))
        self._captures += len(missing)
        self._capture_s += perf_counter() - started
