"""What an energy meter is, and what it says of one block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class MeterError(Exception):
    """A counter or a sensor that cannot be read; the message becomes the reason of a null."""


@dataclass(frozen=True)
class Sample:
    """Power and state at one moment, over all devices of a meter: watts summed, the hottest temperature.

    `clocks_mhz`: by clock, one value per device. `throttled`: what slows any of the devices down.
    """

    at_s: float
    power_w: float
    clocks_mhz: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    temperature_c: float | None = None
    throttled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """What a meter saw between start and stop. `counter_j` is None with a `reason`; an empty or broken series of
    samples has a `trace_reason`."""

    seconds: float
    counter_j: float | None
    samples: tuple[Sample, ...] = ()
    reason: str | None = None
    trace_reason: str | None = None


class EnergyMeter(Protocol):
    """Counts joules between `start` and `stop`, neither of which raises: what goes wrong is the reading's reason.

    `covers`: what is counted, GPU UUIDs or processor packages, other processes' work on them included.
    `clock` is the one that the reading's seconds are taken from, and `sleep` lets it go on.
    """

    @property
    def name(self) -> str: ...

    @property
    def covers(self) -> tuple[str, ...]: ...

    @property
    def power_limit_w(self) -> float | None: ...

    def clock(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> Reading: ...

    def close(self) -> None: ...
