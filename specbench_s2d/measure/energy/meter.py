"""The protocol of energy meters, and their readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class MeterError(Exception):
    """A counter or a sensor that cannot be read; the message is the reason for a null in the records."""


@dataclass(frozen=True)
class Sample:
    """Power and state of all devices of a meter at one moment: watts summed, the highest temperature.

    `clocks_mhz`: by clock, one value per device. `throttled`: what throttles any of the devices.
    """

    at_s: float
    power_w: float
    clocks_mhz: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    temperature_c: float | None = None
    throttled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """What a meter counted and sampled between start and stop. `counter_j` is None with a `reason`; if samples are
    missing, `trace_reason` says why."""

    seconds: float
    counter_j: float | None
    samples: tuple[Sample, ...] = ()
    reason: str | None = None
    trace_reason: str | None = None


class EnergyMeter(Protocol):
    """Counts joules between `start` and `stop`. What these raise becomes the reason of a null (`read_during`).

    `covers`: the devices counted, GPU UUIDs or processor packages, with other processes' work on them. `clock`: the
    seconds that readings are made with; `sleep` waits by that clock.
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
