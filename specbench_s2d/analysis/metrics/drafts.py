"""What the drafts did: layers run, and where drafted tokens left a nested draft."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from specbench_s2d.analysis.metrics.pairs import carrying, total
from specbench_s2d.analysis.metrics.values import Measure, quotient
from specbench_s2d.runs.columns import Ints, Records
from specbench_s2d.runs.record import Record


@dataclass(frozen=True)
class ExitShare:
    """One exit of a nested draft: drafted tokens that left there, and their share of all that were drafted."""

    exit_depth: int
    tokens: int
    share: float


def draft_layers_per_token(records: Iterable[Record]) -> Measure:
    """Layers that the draft ran per drafted token: layers x tokens after the draft's prefill over drafted tokens,
    each summed over the row.

    What the draft runs to catch up with accepted tokens counts too, so a plain draft may lie above its depth.
    """
    records = Records.of(records)
    if len(records) and not any(records.distinct("draft")):
        return Measure(None, "the decoder has no draft")
    kept, note = carrying(records, "draft_layers", "drafted")
    return quotient(total(kept, "draft_layers"), total(kept, "drafted"), "nothing drafted", note)


def mean_exit_depth(records: Iterable[Record]) -> Measure:
    """Mean depth, in layers, at which drafted tokens left a nested draft, pooled over drafted tokens."""
    counts, note = _depths(records)
    return quotient(float(counts @ np.arange(len(counts))), int(counts.sum()), "no draft with exits", note)


def exit_histogram(records: Iterable[Record]) -> list[ExitShare]:
    """Of the drafted tokens, how many left at each depth, shallowest first; empty for a draft without exits."""
    counts, _ = _depths(records)
    tokens = int(counts.sum())
    return [ExitShare(depth, count, count / tokens) for depth, count in enumerate(counts.tolist()) if count]


def _depths(records: Iterable[Record]) -> tuple[Ints, str | None]:
    """How many drafted tokens left at each depth, from 0."""
    kept, note = carrying(records, "exit_depths")
    [depths] = kept.entries("exit_depths")
    return np.bincount(depths), note
