"""Memory of CUDA graphs: how many a model needs, an estimate of their bytes, and their measured bytes.

The estimate uses published figures of other engines (docs/notes.md, "Memory of CUDA graphs"; docs/gpu.md). Bytes
measured on a device (`measure_graphs`) go to the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import PassKind
from specbench_s2d.models.engines.graph_keys import MOST_ROWS, GraphKey, GraphKind, buckets, declared_rows, keys_of
from specbench_s2d.models.engines.trial import trial_keys

LAUNCH_BYTES = 36 * 2**10
"""Device memory of one captured kernel launch, its share of the pool included: from 0.21 GiB for 35 graphs of 16 layers
with about 11 launches (vLLM, Llama 3.2 1B); torch's documentation says 64 KiB for drivers before CUDA 12.4."""
PLAIN_LAYER_LAUNCHES = 30
"""Launches of a layer in plain torch: 25 calls, two copies, and reductions of split matrix products."""
COMPILED_LAYER_LAUNCHES = 16
"""Launches of a compiled layer: 6 products and 5 fused kernels on inductor's CPU backend, a few more on a GPU."""
PASS_LAUNCHES = 33
"""Most launches outside the layers: embedding, positions and mask, final norm, head, likeliest tokens, output
copies."""
WORKSPACE_BYTES = 2 * 32 * 2**20
"""cuBLAS workspaces in torch's setting for Hopper GPUs: 32 MiB each for the capture stream and the current stream."""


@dataclass(frozen=True)
class GraphNeeds:
    """The CUDA graphs that a model of `depth` layers needs: for the passes that decoders declare, and for the trial.

    `kinds`: the declared kinds with the rows of their graphs. `compiled`: whether layers are compiled. `graph_bytes`:
    bytes of one graph where measured on this device; otherwise they are estimated from the number of launches.
    """

    kinds: Mapping[GraphKind, Collection[int]]
    depth: int
    compiled: bool = False
    graph_bytes: int | None = None

    @classmethod
    def of(cls, passes: Iterable[PassKind], depth: int, compiled: bool = False) -> GraphNeeds:
        """From the passes that decoders declare for a model of `depth` layers."""
        return cls(declared_rows(passes, depth), depth, compiled)

    @property
    def widest_rows(self) -> int:
        """The rows of the widest graph."""
        return max(key.rows for key in self.keys(MOST_ROWS))

    def keys(self, length: int) -> set[GraphKey]:
        """The graphs for a cache of `length` positions."""
        lengths = buckets(length)
        declared = {key for kind, rows in self.kinds.items() for key in keys_of(kind, rows, lengths)}
        return declared | trial_keys(self.depth, lengths)

    def count(self, length: int) -> int:
        """The number of graphs for a cache of `length` positions."""
        return len(self.keys(length))

    def recorded_bytes(self, length: int) -> int:
        """Bytes of these graphs, without the working memory of their shared pool."""
        if self.graph_bytes is not None:
            return self.graph_bytes * self.count(length)
        per_layer = COMPILED_LAYER_LAUNCHES if self.compiled else PLAIN_LAYER_LAUNCHES
        launches = sum(len(key.kind.layers) * per_layer + PASS_LAUNCHES for key in self.keys(length))
        return launches * LAUNCH_BYTES


def measure_graphs(capture: Callable[[], None], free_bytes: Callable[[], int] | None) -> dict[str, Any]:
    """Capture, and return the bytes that this took, for the manifest: `graph_bytes_measured`, None with the reason.

    `free_bytes`: reads the driver's free bytes (`devices.driver_free_bytes`), None on a device without such a count.
    Memory that torch's allocator holds for the graphs' pool counts as taken.
    """
    if free_bytes is None:
        capture()
        return _unknown(_ON_A_CPU)
    before = free_bytes()
    capture()
    taken = before - free_bytes()
    if taken < 0:
        return _unknown("more was free after the captures than before: another process released memory meanwhile")
    return {"graph_bytes_measured": taken}


def check_graphs_fit(name: str, taken_bytes: int, captured: int, left: int, free_bytes: int) -> None:
    """Raise `ModelError` where `left` more graphs, of the mean size of those `captured`, do not fit in free memory."""
    each_bytes = taken_bytes // max(captured, 1)
    if left * each_bytes > free_bytes:
        raise ModelError(
            f"{name}: {captured} CUDA graphs took {taken_bytes / 1e9:.3f} GB, the {left} that are left would take "
            f"{left * each_bytes / 1e9:.3f} GB, and {free_bytes / 1e9:.3f} GB are free. Lower --max-new-tokens, run "
            "fewer decoders at once, or give --engine eager, which takes no graphs."
        )


class GraphMeter:
    """Bytes of all captures of a model, measured batch by batch; unknown from the first batch without a measurement.

    `name`: of the model, for error messages. `free_bytes`: as in `measure_graphs`.
    """

    def __init__(self, name: str, free_bytes: Callable[[], int] | None) -> None:
        self._name, self._free_bytes, self._taken_bytes = name, free_bytes, 0
        self._captures = 0
        self._why_unknown = _unknown(_ON_A_CPU) if free_bytes is None else None

    def capture(self, batch: Callable[[], None], captures: int, left: int) -> None:
        """Run a batch of captures; raises `ModelError` where the `left` ones will not fit."""
        found = measure_graphs(batch, self._free_bytes)
        taken_bytes = found["graph_bytes_measured"]
        if taken_bytes is None or self._free_bytes is None:
            self._why_unknown = found
            return
        self._taken_bytes, self._captures = self._taken_bytes + taken_bytes, self._captures + captures
        # One-time costs, of the first graph of a kind or of the pool, are not expected of the other graphs.
        batch_is_less = taken_bytes * self._captures < self._taken_bytes * captures
        taken, of = (taken_bytes, captures) if batch_is_less else (self._taken_bytes, self._captures)
        check_graphs_fit(self._name, taken, of, left, self._free_bytes())

    def facts(self) -> dict[str, Any]:
        """`graph_bytes_measured`: bytes of all captures since the model was loaded, None with the reason."""
        return self._why_unknown or {"graph_bytes_measured": self._taken_bytes}


def with_graph_bytes(facts: dict[str, Any]) -> dict[str, Any]:
    """An engine's facts with `graph_bytes_measured`, None with the reason where the engine does not report it."""
    if "graph_bytes_measured" in facts:
        return facts
    why = "captures were not measured" if "captures" in facts else "no CUDA graphs: passes run on a CPU, or one by one"
    return {**facts, **_unknown(why)}


_ON_A_CPU = "no device that reports its free memory: the passes run on a CPU"


def _unknown(reason: str) -> dict[str, Any]:
    return {"graph_bytes_measured": None, "graph_bytes_measured_reason": reason}
