"""Records picked, summed, paired and grouped: what every metric starts from.

A metric takes the records (any status: only those with status ok are used) or the pairs of one table row, and returns
a `Measure`, whose value is None, with the reason, where nothing can be said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.decoding.labels import value_text
from specbench_s2d.runs.record import Record

Question = tuple[str, int | str]
Cell = tuple[str, str, int | str, int, int, int]


@dataclass(frozen=True)
class Pair:
    """A decoder's record and the baseline's (AR's, or that of the decoder it is compared with) of the same target,
    question, turn, repeat and launch; both finished, both timed."""

    ours: Record
    baseline: Record


def question_of(item: Record | Pair) -> Question:
    """What counts as one question, whatever the turns and repeats."""
    record = item.ours if isinstance(item, Pair) else item
    return record.suite, record.question_id


def launch_of(item: Record | Pair) -> int:
    """The launch that an item was measured in."""
    return item.ours.launch if isinstance(item, Pair) else item.launch


def cell_of(record: Record) -> Cell:
    """Target, suite, question, turn, repeat and launch: what was decoded, whichever decoder did it."""
    return record.target, record.suite, record.question_id, record.turn, record.repeat, record.launch


def latest(records: Iterable[Record]) -> list[Record]:
    """One record per cell and decoder: the last one written, which a retry of a failed cell appends."""
    return list({(r.label, cell_of(r)): r for r in records}.values())


def carrying(records: Iterable[Record], *fields: str) -> tuple[list[Record], str | None]:
    """The finished records that carry all `fields`, and a note (with the records' reasons) where some do not."""
    finished = [r for r in records if r.status == "ok"]
    if not finished:
        return [], "no cell finished"
    kept = [r for r in finished if all(getattr(r, field) is not None for field in fields)]
    if len(kept) == len(finished):
        return kept, None
    reasons = {r.reasons[f] for r in finished for f in fields if getattr(r, f) is None and f in r.reasons}
    missing = f"{len(finished) - len(kept)} of {len(finished)} cells carry no {' or '.join(fields)}"
    return kept, f"{missing} ({', '.join(sorted(reasons))})" if reasons else missing


def total(records: Iterable[Record], field: str) -> float:
    """The sum of a number (or of a list of numbers) over records that carry it."""
    values = [getattr(r, field) for r in records]
    return float(math.fsum(sum(v) if isinstance(v, list) else v for v in values))


def full_sum(records: Iterable[Record], field: str) -> Measure:
    """A sum over the finished records; None unless every one of them carries the field."""
    kept, note = carrying(records, field)
    return Measure(None, note) if note else Measure(total(kept, field))


def pair(records: Iterable[Record], baseline: Iterable[Record]) -> list[Pair]:
    """Match a decoder's records with the baseline's, cell by cell, in the decoder's order.

    A record that failed, was skipped or carries no total time has no pair, and neither has its partner; nor have two
    that were measured on different devices. Decode times may be missing (imported runs): metrics that need them leave
    such pairs out.
    """
    fields = ("new_tokens", "total_s")
    partners = {(cell_of(r), r.device_id): r for r in carrying(baseline, *fields)[0]}
    ours = ((r, partners.get((cell_of(r), r.device_id))) for r in carrying(records, *fields)[0])
    return [Pair(r, partner) for r, partner in ours if partner is not None]


@dataclass(frozen=True)
class Group:
    """The records behind one row of the summary table: a decoder on one suite, or on all, of one target, or of several.

    `targets`: those that the row is about. `baseline`: AR's records. `parts`: of several targets, the row of each,
    empty for one that has none."""

    target: str
    label: str
    suite: str
    records: Sequence[Record]
    targets: Sequence[str]
    baseline: Sequence[Record]
    parts: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def by_target(self) -> list[list[Record]]:
        return [[r for r in self.records if r.target == target] for target in self.targets]

    @cached_property
    def pairs_by_target(self) -> list[list[Pair]]:
        """The cells paired with AR's, target by target."""
        return [pair(records, self.baseline) for records in self.by_target]

    @property
    def pairs(self) -> list[Pair]:
        """The same in one list."""
        return [p for pairs in self.pairs_by_target for p in pairs]

    @property
    def decoder(self) -> str:
        return self.records[0].decoder

    @property
    def lossy(self) -> bool:
        return any(r.lossy for r in self.records)

    @property
    def draft(self) -> str | None:
        """Targets may differ in it."""
        return ", ".join(dict.fromkeys(r.draft for r in self.records if r.draft)) or None

    @property
    def options(self) -> str:
        """Every option that the decoder ran with, defaults included, but for those that are not set."""
        options = self.records[0].decoder_options.items()
        return ", ".join(f"{name}={value_text(value)}" for name, value in options if value is not None)

    @property
    def projected(self) -> str | None:
        """Why any of the records is a projection, each reason once; None where all were measured."""
        reasons = dict.fromkeys(part for r in self.records if r.projected for part in r.projected.split(", "))
        return ", ".join(reasons) or None
