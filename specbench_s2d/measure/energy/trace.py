"""Power over time: sampled by a thread while windows are open, and integrated."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from specbench_s2d.errors import is_stop
from specbench_s2d.measure.energy.meter import MeterError, Reading, Sample
from specbench_s2d.measure.energy.reading import reason_of

SAMPLE_EVERY_S = 1 / 15
"""Between the 10 and 20 Hz at which the power sensors of GPU boards are updated."""
LONGEST_GAP_S = 1.0
"""Without a sample for longer than this, the integral of the samples is no measurement."""
_JOIN_S = 2.0  # a driver that hangs holds its thread, and nothing else


def integrate_j(samples: Sequence[Sample]) -> float | None:
    """Joules, by integrating the sampled power with the trapezoid rule; None for fewer than two samples."""
    if len(samples) < 2:
        return None
    return float(np.trapezoid([s.power_w for s in samples], [s.at_s for s in samples]))


class SampledMeter(ABC):
    """A meter of real devices: reads their counters at both ends of a window, and samples them from a thread inside.

    The thread starts with the first window and ends with `close`: between windows it sleeps on.
    """

    no_trace: str | None = None
    """Why devices of this kind give no samples of power."""

    def __init__(
        self,
        name: str,
        covers: tuple[str, ...],
        power_limit_w: float | None,
        every_s: float = SAMPLE_EVERY_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name, self.covers, self.power_limit_w = name, covers, power_limit_w
        self.clock = clock
        self._every_s = every_s
        self._thread: threading.Thread | None = None
        self._closed, self._sampling = threading.Event(), False

    @abstractmethod
    def counters_j(self) -> tuple[float, ...]:
        """Joules counted so far, by device; raises `MeterError`."""

    @abstractmethod
    def sample(self) -> Sample | None:
        """Power and state now, None for devices that have only counters; raises `MeterError`."""

    def sleep(self, seconds: float) -> None:
        """Wait in real time."""
        time.sleep(seconds)

    def start(self) -> None:
        """Open a window: read the counters, then let the thread sample every `every_s`. Raises `MeterError`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name=f"{self.name}-sampler", daemon=True)
            self._thread.start()
        self._samples: list[Sample] = []
        self._trace_reason: str | None = None
        self._before_j = self.counters_j()
        self._began_s = self.clock()
        self._sampling = True

    def stop(self) -> Reading:
        """Close the window. Where the counters cannot be read, the samples stay."""
        ended_s = self.clock()
        self._sampling = False
        used_j, reason = None, None
        try:
            used_j = self._difference_j(self.counters_j(), ended_s - self._began_s)
        except BaseException as error:
            if is_stop(error):
                raise
            reason = reason_of(error)
        samples = [sample for sample in self._samples if self._began_s <= sample.at_s <= ended_s]
        trace_reason = self.no_trace or self._trace_reason or self._gap(samples, ended_s)
        return Reading(ended_s - self._began_s, used_j, self._to_the_ends(samples, ended_s), reason, trace_reason)

    def close(self) -> None:
        """End the sampling thread."""
        self._closed.set()
        if self._thread:
            self._thread.join(_JOIN_S)

    def _difference_j(self, after_j: tuple[float, ...], seconds: float) -> float:
        """Joules of all devices; none of them hides that another's counter is broken."""
        for device, before, after in zip(self.covers, self._before_j, after_j, strict=True):
            if not (math.isfinite(before) and math.isfinite(after)):
                raise MeterError(f"the energy counter of {device} went from {before} to {after} J")
            if after < before:
                raise MeterError(
                    f"the energy counter of {device} went backwards, from {before:.3f} to {after:.3f} J: it wrapped, "
                    "or its driver was reloaded"
                )
            if after == before:
                raise MeterError(f"the energy counter of {device} did not move in {seconds:.1f} s")
        return sum(after_j) - sum(self._before_j)

    def _gap(self, samples: Sequence[Sample], ended_s: float) -> str | None:
        """Why the samples are too few to integrate; None where they are not."""
        if not samples:
            return f"no sample of power in {ended_s - self._began_s:.2f} s"
        longest_s = max(np.diff([self._began_s, *(sample.at_s for sample in samples), ended_s]))
        return f"no sample of power for {longest_s:.1f} s" if longest_s > LONGEST_GAP_S else None

    def _to_the_ends(self, samples: Sequence[Sample], ended_s: float) -> tuple[Sample, ...]:
        """The samples, with the first one's power from the window's start on and the last one's to its end."""
        if not samples:
            return ()
        return (replace(samples[0], at_s=self._began_s), *samples, replace(samples[-1], at_s=ended_s))

    def _watch(self) -> None:
        while not self._closed.wait(self._every_s):
            if self._sampling:
                self._take()

    def _take(self) -> None:
        """Take one more sample; the first failure ends the window's series, and its reason is kept."""
        try:
            sample = self.sample()
        except BaseException as error:
            if is_stop(error):
                raise
            self._trace_reason, self._sampling = reason_of(error), False
            return
        if sample:
            self._samples.append(sample)
