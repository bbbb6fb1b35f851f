"""The metered block: one line of `energy.jsonl`."""

from __future__ import annotations

from specbench_s2d.measure.energy.block import Metered
from specbench_s2d.runs.record import Name, Place, Record

BlockKey = tuple[str, str, str, int]
"""Target, label, suite, repeat."""


class EnergyBlock(Metered):
    """All timed turns of one suite by one decoder on one target in one repeat, decoded again under a meter."""

    target: Name
    label: Name
    suite: Name
    repeat: Place

    @property
    def key(self) -> BlockKey:
        """What the block is of."""
        return self.target, self.label, self.suite, self.repeat


def block_of(record: Record) -> BlockKey:
    """The block that a record has its share of."""
    return record.target, record.label, record.suite, record.repeat
