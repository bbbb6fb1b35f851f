"""What the drafts did: layers run, and where drafted tokens left a nested draft."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specbench_s2d.analysis.metrics.pairs import carrying, total
from specbench_s2d.analysis.metrics.values import Measure, quotient
from specbench_s2d.runs.record import Record


@dataclass(frozen=True)
class ExitShare:
    """One exit of a nested draft: drafted tokens that left there, and their share of all that were drafted."""

    exit_depth: int
    tokens: int
    share: float


def draft_layers_per_token(records: Sequence[Record]) -> Measure:
    """Layers that the draft ran per drafted token: layers x tokens after the draft's prefill over drafted tokens,
    each summed over the row.

    What the draft runs to catch up with accepted tokens counts too, so a plain draft may lie above its depth.
    """
    if records and not any(r.draft for r in records):
        return Measure(None, "the decoder has no draft")
    kept, note = carrying(records, "draft_layers", "drafted")
    return quotient(total(kept, "draft_layers"), total(kept, "drafted"), "nothing drafted", note)


def mean_exit_depth(records: Iterable[Record]) -> Measure:
    """Mean depth, in layers, at which drafted tokens left a nested draft, pooled over drafted tokens."""
    depths, note = _depths(records)
    layers = math.fsum(depth * count for depth, count in depths.items())
    return quotient(layers, depths.total(), "no draft with exits", note)


def exit_histogram(records: Iterable[Record]) -> list[ExitShare]:
    """Of the drafted tokens, how many left at each depth, shallowest first; empty for a draft without exits."""
    depths, _ = _depths(records)
    return [ExitShare(depth, count, count / depths.total()) for depth, count in sorted(depths.items())]


def _depths(records: Iterable[Record]) -> tuple[Counter[int], str | None]:
    kept, note = carrying(records, "exit_depths")
    return Counter(depth for r in kept for depth in r.exit_depths or []), note
