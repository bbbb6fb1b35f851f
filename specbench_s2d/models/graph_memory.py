"""What CUDA graphs take of a device: how many a model can ask for, an estimate of their bytes, what they really took.

The estimate is made of published figures of other engines and is not measured here (docs/notes.md, "Memory of CUDA
graphs"); what is measured on a device (`measure_graphs`) goes to the manifest.
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
"""Device memory of one recorded kernel launch, the pool's share included: 0.21 GiB for 35 graphs of 16 layers of about
11 launches (vLLM, Llama 3.2 1B); torch's documentation says 64 KiB for drivers before CUDA 12.4."""
PLAIN_LAYER_LAUNCHES = 30
"""Launches of a layer as torch calls: 25 calls, two copies, and sums of products that are split."""
COMPILED_LAYER_LAUNCHES = 16
"""Launches of a compiled layer: 6 products and 5 fused kernels on inductor's CPU backend, a few more on a GPU."""
PASS_LAUNCHES = 33
"""Launches around the layers at most: embedding, place and mask, final norm, head, likeliest tokens, the copies out."""
WORKSPACE_BYTES = 2 * 32 * 2**20
"""cuBLAS's workspaces as torch sets them for Hopper, 32 MiB for the stream of captures and for the current one."""


@dataclass(frozen=True)
class GraphNeeds:
    """The graphs of a model of `depth` layers: those it can be asked for (by kind, their rows), and those that its
    engine is tried by. `compiled`: its layers are. `graph_bytes`: of one graph, where it was measured on this device;
    else they are estimated by their launches."""

    kinds: Mapping[GraphKind, Collection[int]]
    depth: int
    compiled: bool = False
    graph_bytes: int | None = None

    @classmethod
    def of(cls, passes: Iterable[PassKind], depth: int, compiled: bool = False) -> GraphNeeds:
        """By the passes that decoders announce of a model of `depth` layers."""
        return cls(declared_rows(passes, depth), depth, compiled)

    @property
    def widest_rows(self) -> int:
        """The most rows of a graph."""
        return max(shape.rows for shape in self.shapes(MOST_ROWS))

    def shapes(self, length: int) -> set[GraphKey]:
        """The graphs of a cache that is reserved for `length` positions."""
        lengths = buckets(length)
        asked = {shape for kind, rows in self.kinds.items() for shape in keys_of(kind, rows, lengths)}
        return asked | trial_keys(self.depth, lengths)

    def count(self, length: int) -> int:
        """How many graphs those are."""
        return len(self.shapes(length))

    def recorded_bytes(self, length: int) -> int:
        """What these graphs take, their shared pool's working memory left out."""
        if self.graph_bytes is not None:
            return self.graph_bytes * self.count(length)
        per_layer = COMPILED_LAYER_LAUNCHES if self.compiled else PLAIN_LAYER_LAUNCHES
        launches = sum(len(shape.kind.layers) * per_layer + PASS_LAUNCHES for shape in self.shapes(length))
        return launches * LAUNCH_BYTES


def measure_graphs(capture: Callable[[], None], free_bytes: Callable[[], int] | None) -> dict[str, Any]:
    """Capture, and what that took, for the manifest: `graph_bytes_measured`, None with the reason.

    `free_bytes`: what the driver has free on the device now (`devices.driver_free_bytes`), None where nobody tells.
    What torch's allocator holds for the graphs' pool counts as taken, for the driver does not have it.
    """
    if free_bytes is None:
        capture()
        return _unknown(_ON_A_CPU)
    before = free_bytes()
    capture()
    taken = before - free_bytes()
    if taken < 0:
        return _unknown("more was free after the captures than before: others gave memory back meanwhile")
    return {"graph_bytes_measured": taken}


def check_graphs_fit(name: str, taken_bytes: int, captured: int, left: int, free_bytes: int) -> None:
    """Raise `ModelError` where the `left` graphs, each as large as those `captured`, will not fit in what is free."""
    each_bytes = taken_bytes // max(captured, 1)
    if left * each_bytes > free_bytes:
        raise ModelError(
            f"{name}: {captured} CUDA graphs took {taken_bytes / 1e9:.3f} GB, the {left} that are left would take "
            f"{left * each_bytes / 1e9:.3f} GB, and {free_bytes / 1e9:.3f} GB are free. Lower --max-new-tokens, run "
            "fewer decoders at once, or give --engine eager, which takes no graphs."
        )


class GraphMeter:
    """What a model's captures take together, metered batch by batch; unknown from the first batch that cannot be told.

    `name`: the model's, for refusals. `free_bytes`: as for `measure_graphs`.
    """

    def __init__(self, name: str, free_bytes: Callable[[], int] | None) -> None:
        self._name, self._free_bytes, self._taken_bytes = name, free_bytes, 0
        self._captures = 0
        self._why_unknown = _unknown(_ON_A_CPU) if free_bytes is None else None

    def capture(self, batch: Callable[[], None], captures: int, left: int) -> None:
        """Run a batch of so many captures; raises `ModelError` where the `left` ones, as large each, will not fit."""
        found = measure_graphs(batch, self._free_bytes)
        taken_bytes = found["graph_bytes_measured"]
        if taken_bytes is None or self._free_bytes is None:
            self._why_unknown = found
            return
        self._taken_bytes, self._captures = self._taken_bytes + taken_bytes, self._captures + captures
        # What is taken once, for the first of a kind or for the pool, is not to be expected of every graph.
        batch_is_less = taken_bytes * self._captures < self._taken_bytes * captures
        taken, of = (taken_bytes, captures) if batch_is_less else (self._taken_bytes, self._captures)
        check_graphs_fit(self._name, taken, of, left, self._free_bytes())

    def facts(self) -> dict[str, Any]:
        """`graph_bytes_measured`: of all captures since the model was loaded; null with the reason."""
        return self._why_unknown or {"graph_bytes_measured": self._taken_bytes}


def with_graph_bytes(facts: dict[str, Any]) -> dict[str, Any]:
    """An engine's facts with `graph_bytes_measured`: null with the reason where the engine does not say."""
    if "graph_bytes_measured" in facts:
        return facts
    why = "captures were not metered" if "captures" in facts else "no CUDA graphs: passes run on a CPU, or one by one"
    return {**facts, **_unknown(why)}


_ON_A_CPU = "no device that tells its free memory: the passes run on a CPU"


def _unknown(reason: str) -> dict[str, Any]:
    return {"graph_bytes_measured": None, "graph_bytes_measured_reason": reason}
