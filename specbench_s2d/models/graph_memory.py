"""What CUDA graphs take of a device: how many a model can ask for, an estimate of their bytes, what they really took.

The estimate is made of published figures of other engines and is not measured here (docs/notes.md, "Memory of CUDA
graphs"); what is measured on a device (`measure_graphs`) goes to the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from specbench_s2d.errors import ModelError
from specbench_s2d.models.passes.shapes import AHEAD_ROWS, MASK_COLUMNS, MOST_ROWS, ROWS, buckets, round_up

LAUNCH_BYTES = 36 * 2**10
"""Device memory of one recorded kernel launch, the pool's share included: 0.21 GiB for 35 graphs of 16 layers of about
11 launches (vLLM, Llama 3.2 1B); torch's documentation says 64 KiB for drivers before CUDA 12.4."""
PLAIN_LAYER_LAUNCHES = 30
"""Launches of a layer as torch calls: 25 calls, two copies, and sums of products that are split."""
COMPILED_LAYER_LAUNCHES = 16
"""Launches of a compiled layer: 6 products and 5 fused kernels on inductor's CPU backend, a few more on a GPU."""
PASS_LAUNCHES = 25
"""Launches around the layers: embedding, place and mask, final norm, head, and the copy to the outputs."""
WORKSPACE_BYTES = 2 * 32 * 2**20
"""cuBLAS's workspaces as torch sets them for Hopper, 32 MiB for the stream of captures and for the current one."""


@dataclass(frozen=True)
class Kinds:
    """Kinds of pass that are captured for the same rows: `count` of them, `layers` run by all of them together.

    `most_rows`: they are captured for all of `ROWS` up to it. Without layers they attend to nothing, and one graph per
    number of rows serves all lengths.
    """

    count: int
    layers: int
    most_rows: int

    @property
    def rows(self) -> int:
        """How many numbers of rows are captured."""
        most = round_up(min(max(self.most_rows, AHEAD_ROWS), MOST_ROWS), ROWS)
        return sum(rows <= most for rows in ROWS)


@dataclass(frozen=True)
class GraphNeeds:
    """The graphs a model can be asked for. `compiled`: its layers are. `graph_bytes`: of one graph, where it was
    measured on this device; else they are estimated by their launches."""

    kinds: tuple[Kinds, ...]
    compiled: bool = False
    graph_bytes: int | None = None

    @property
    def widest_rows(self) -> int:
        """The most rows of a graph."""
        return max(round_up(min(max(kinds.most_rows, AHEAD_ROWS), MOST_ROWS), ROWS) for kinds in self.kinds)

    def count(self, length: int) -> int:
        """An upper bound of the graphs of a cache that is reserved for `length` positions."""
        lengths = len(buckets(length))
        return sum(kinds.count * kinds.rows * (lengths if kinds.layers else 1) for kinds in self.kinds)

    def recorded_bytes(self, length: int) -> int:
        """What these graphs take, their shared pool's working memory left out."""
        if self.graph_bytes is not None:
            return self.graph_bytes * self.count(length)
        lengths, per_layer = len(buckets(length)), COMPILED_LAYER_LAUNCHES if self.compiled else PLAIN_LAYER_LAUNCHES
        launches = sum(
            kinds.rows * (lengths if kinds.layers else 1) * (kinds.layers * per_layer + kinds.count * PASS_LAUNCHES)
            for kinds in self.kinds
        )
        return launches * LAUNCH_BYTES


def target_kinds(layers: int, chain_rows: int, masked_rows: int, searched: bool = False) -> tuple[Kinds, ...]:
    """A target's: whole passes to the logits, causal and under a mask (the noise is measured under one, trees are
    verified so); where a search runs on it, passes to the hidden states and the head alone as well."""
    read = (Kinds(1, layers, 1), Kinds(1, 0, 1)) if searched else ()
    return (Kinds(1, layers, chain_rows), Kinds(1, layers, masked_rows), *read)


def draft_kinds(layers: int, exits: int, masked_rows: int) -> tuple[Kinds, ...]:
    """A draft's: passes of one or two rows to the logits and to the hidden states, the head alone, and under masks of
    any width where beams are searched on it.

    With `exits` instead: a kind per stage, which run all layers together, over as many rows as may wait (not bounded by
    the draft's length), the head, and both again under the masks of a tree.
    """
    if exits:
        masked = (Kinds(2 * exits, 2 * layers, MOST_ROWS),) if masked_rows else ()
        return (Kinds(exits, layers, MOST_ROWS), Kinds(1, 0, MOST_ROWS), *masked)
    masks = len(MASK_COLUMNS)
    masked = (Kinds(masks, masks * layers, masked_rows),) if masked_rows else ()
    return (Kinds(2, 2 * layers, 1), Kinds(1, 0, max(1, masked_rows)), *masked)


def measure_graphs(capture: Callable[[], None], free_bytes: Callable[[], int] | None) -> dict[str, Any]:
    """Capture, and what that took, for the manifest: `graph_bytes_measured`, None with the reason.

    `free_bytes`: what the driver has free on the device now (`devices.driver_free_bytes`), None where nobody tells.
    What torch's allocator holds for the graphs' pool counts as taken, for the driver does not have it.
    """
    if free_bytes is None:
        capture()
        return _unknown("no device that tells its free memory: the passes run on a CPU")
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


def most_kinds(needs: Sequence[tuple[Kinds, ...]]) -> tuple[Kinds, ...]:
    """What a model needs that several decoders use: of kinds alike, those captured for the most rows."""
    most: dict[tuple[int, int, int], Kinds] = {}
    for kinds in needs:
        for place, one in enumerate(kinds):
            key = (place, one.count, one.layers)
            if key not in most or one.most_rows > most[key].most_rows:
                most[key] = one
    return tuple(most.values())


def with_graph_bytes(facts: dict[str, Any]) -> dict[str, Any]:
    """An engine's facts with `graph_bytes_measured`: null with the reason where the engine does not say."""
    if "graph_bytes_measured" in facts:
        return facts
    why = "captures were not metered" if "captures" in facts else "no CUDA graphs: passes run on a CPU, or one by one"
    return {**facts, **_unknown(why)}


def _unknown(reason: str) -> dict[str, Any]:
    return {"graph_bytes_measured": None, "graph_bytes_measured_reason": reason}
