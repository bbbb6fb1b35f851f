"""The records behind one row of the summary table: a decoder on one suite, or on all, of one target, or of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from specbench_s2d.analysis.metrics.pairs import Pair, pair
from specbench_s2d.decoding.labels import value_text
from specbench_s2d.runs.record import Record


@dataclass(frozen=True)
class Group:
    """`targets`: those that the row is about. `baseline`: AR's records. `parts`: of several targets, the row of each,
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
        return options_text(self.records[0].decoder_options)

    @property
    def projected(self) -> str | None:
        return projection_of(self.records)


def options_text(options: Mapping[str, Any]) -> str:
    """Every option that a decoder ran with, defaults included, but for those that are not set."""
    return ", ".join(f"{name}={value_text(value)}" for name, value in options.items() if value is not None)


def projection_of(records: Iterable[Record]) -> str | None:
    """Why any of these records is a projection, each reason once; None where all were measured."""
    reasons = dict.fromkeys(part for r in records if r.projected for part in r.projected.split(", "))
    return ", ".join(reasons) or None
