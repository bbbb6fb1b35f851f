"""A reading taken around work. What the meter raises, or says that cannot be true, becomes the reading's reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

from specbench_s2d.errors import in_one_line, is_stop
from specbench_s2d.measure.energy.meter import EnergyMeter, MeterError, Reading, Sample

T = TypeVar("T")
IDLE_UNKNOWN = "the idle power is not known"


def read_during(meter: EnergyMeter, work: Callable[[], T]) -> tuple[T, Reading]:
    """What `work` returns, and the meter's reading of it, checked. Raises only what `work` raises; the meter is stopped
    then too."""
    failed: str | None = None
    try:
        meter.start()
    except BaseException as error:
        if is_stop(error):
            raise
        failed = reason_of(error)
    try:
        done = work()
    finally:
        reading = _stopped(meter, failed)
    return done, checked(reading)


def checked(reading: Reading) -> Reading:
    """The reading without a count or a trace that no device gives: each is None, or not to be used, with its reason.

    A device that is on draws more than 0 W: a counter that stands still and a sensor that reads 0 W are broken.
    """
    reason = reading.reason or _counter_fault(reading)
    trace_reason = reading.trace_reason or _trace_fault(reading.samples)
    return replace(reading, counter_j=None if reason else reading.counter_j, reason=reason, trace_reason=trace_reason)


def net_of_idle(energy_j: float | None, seconds: float, idle_w: float | None) -> tuple[float | None, str | None]:
    """Joules less what the idle device would have drawn meanwhile; None with the reason, and never 0 or less."""
    if energy_j is None:
        return None, "its energy is not known"
    if idle_w is None:
        return None, IDLE_UNKNOWN
    net_j = energy_j - idle_w * seconds
    if net_j > 0:
        return net_j, None
    return None, (
        f"the idle power, {idle_w:.1f} W, is not below the {energy_j / seconds:.1f} W drawn at work: the device was "
        "not idle when it was measured, or the meter errs"
    )


def reason_of(error: BaseException) -> str:
    """Why there is no figure, in a line."""
    return str(error) if isinstance(error, MeterError) else in_one_line(error, kind=True)


def _stopped(meter: EnergyMeter, failed: str | None) -> Reading:
    try:
        reading: Any = meter.stop()
    except BaseException as error:
        if is_stop(error):
            raise
        failed = failed or reason_of(error)
        return Reading(0.0, None, (), failed, failed)
    if not isinstance(reading, Reading):
        failed = failed or f"the meter gave {type(reading).__name__}, which is no Reading"
        return Reading(0.0, None, (), failed, failed)
    if failed is None:
        return reading
    return replace(reading, counter_j=None, samples=(), reason=failed, trace_reason=failed)


def _counter_fault(reading: Reading) -> str | None:
    counted_j, seconds = reading.counter_j, reading.seconds
    if counted_j is None:
        return "the meter counted nothing and said no reason"
    if not (math.isfinite(seconds) and seconds > 0):
        return f"the meter's clock went on by {seconds:g} s"
    if not math.isfinite(counted_j):
        return f"the energy counter gave {counted_j} J"
    if counted_j < 0:
        return f"the energy counter fell by {-counted_j:.3f} J: it was reset"
    if counted_j == 0:
        return f"the energy counter did not move in {seconds:.1f} s"
    return None


def _trace_fault(samples: tuple[Sample, ...]) -> str | None:
    if any(after.at_s < before.at_s for before, after in pairwise(samples)):
        return "the clock of the power samples went back"
    odd = [sample.power_w for sample in samples if not 0 < sample.power_w < math.inf]
    return f"the power sensor read {odd[0]:g} W in {len(odd)} of {len(samples)} samples" if odd else None
