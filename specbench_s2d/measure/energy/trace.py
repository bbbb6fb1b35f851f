"""Power over time: sampled by a thread while a counter runs, and integrated."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from specbench_s2d.measure.energy.meter import MeterError, Reading, Sample

SAMPLE_EVERY_S = 1 / 15
"""Between the 10 and 20 Hz at which the power sensors of GPU boards are updated."""


def integrate_j(samples: Sequence[Sample]) -> float | None:
    """Joules, by integrating the sampled power with the trapezoid rule; None for fewer than two samples."""
    if len(samples) < 2:
        return None
    return float(np.trapezoid([s.power_w for s in samples], [s.at_s for s in samples]))


class SampledMeter(ABC):
    """A meter of real devices: reads their counters at both ends, and samples them from a thread in between."""

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
        """Open the window: read the counters, then sample at once and every `every_s` after that."""
        self._samples: list[Sample] = []
        self._reason: str | None = None
        self._trace_reason: str | None = None
        self._done = threading.Event()
        self._began_s = self.clock()
        try:
            self._before_j = self.counters_j()
        except MeterError as error:
            self._reason = str(error)
            return
        self._thread = threading.Thread(target=self._watch, name=f"{self.name}-sampler", daemon=True)
        self._take()
        self._thread.start()

    def stop(self) -> Reading:
        """Close the window; the sampling thread has ended when this returns."""
        self._done.set()
        if self._thread:
            self._thread.join()
            self._thread = None
            self._take()
        used_j = self._used_j()
        return Reading(
            self.clock() - self._began_s, used_j, tuple(self._samples), self._reason, self._trace_reason or self._reason
        )

    def _used_j(self) -> float | None:
        if self._reason is None:
            try:
                return self._difference_j(self.counters_j())
            except MeterError as error:
                self._reason = str(error)
        return None

    def _difference_j(self, after_j: tuple[float, ...]) -> float:
        for device, before, after in zip(self.covers, self._before_j, after_j, strict=True):
            if after < before:
                raise MeterError(
                    f"the energy counter of {device} went backwards, from {before:.3f} to {after:.3f} J: it wrapped, "
                    "or its driver was reloaded"
                )
        return sum(after_j) - sum(self._before_j)

    def _watch(self) -> None:
        while self._trace_reason is None and not self._done.wait(self._every_s):
            self._take()

    def _take(self) -> None:
        """Take one more sample; the first failure ends the series, and its reason is kept."""
        if self._trace_reason is not None:
            return
        try:
            sample = self.sample()
        except MeterError as error:
            self._trace_reason = str(error)
            return
        if sample:
            self._samples.append(sample)
