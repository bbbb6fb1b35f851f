"""A recorded meter on a virtual clock, for tests of all that uses a meter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specbench_s2d.measure.energy.meter import Reading, Sample
from specbench_s2d.measure.energy.trace import SAMPLE_EVERY_S


class VirtualClock:
    """Stands still but for `sleep`, and for `tick_s` at each look at it."""

    def __init__(self, tick_s: float = 0.0) -> None:
        self.now_s, self._tick_s = 0.0, tick_s

    def __call__(self) -> float:
        self.now_s += self._tick_s
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


@dataclass(frozen=True)
class Recording:
    """Power and counter over time: `times_s` rising, `watts` and `counter_j` at those times, straight lines between.

    A jump is two entries at one time. Before its first entry and after its last the power stays, and so does the
    counter: a recording should outlast what is measured with it.
    """

    times_s: Sequence[float]
    watts: Sequence[float]
    counter_j: Sequence[float]


class ReplayMeter:
    """Plays a recording by a clock; from `lost_at_s` on, it answers as a meter does whose driver is gone."""

    name = "replay"
    covers = ("recording",)
    power_limit_w: float | None = None

    def __init__(
        self,
        recording: Recording,
        clock: VirtualClock,
        every_s: float = SAMPLE_EVERY_S,
        lost_at_s: float = float("inf"),
    ) -> None:
        self.clock, self.sleep = clock, clock.sleep
        self._recording, self._every_s, self._lost_at_s = recording, every_s, lost_at_s
        self._began_s = 0.0

    def start(self) -> None:
        """Open the window at the clock's time."""
        self._began_s = self.clock()

    def stop(self) -> Reading:
        """What the recording says of the window."""
        ended_s = self.clock()
        seconds = ended_s - self._began_s
        if ended_s >= self._lost_at_s:
            gone = f"the recorded driver was lost at {self._lost_at_s:g} s"
            return Reading(seconds, None, (), gone, gone)
        r = self._recording
        before_j, after_j = np.interp([self._began_s, ended_s], r.times_s, r.counter_j)
        if after_j < before_j:
            return Reading(seconds, None, (), "the recorded counter went backwards", "not integrated")
        at_s = np.append(np.arange(self._began_s, ended_s, self._every_s), ended_s)
        watts = np.interp(at_s, r.times_s, r.watts)
        samples = tuple(Sample(float(t), float(w)) for t, w in zip(at_s, watts, strict=True))
        return Reading(seconds, float(after_j - before_j), samples)

    def close(self) -> None:
        """A recording holds nothing."""
