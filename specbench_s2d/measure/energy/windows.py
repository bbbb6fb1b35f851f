"""Energy of timed windows: the counter read at the ends of each, power and clocks sampled beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from specbench_s2d.measure.energy.block import extremes
from specbench_s2d.measure.energy.meter import EnergyMeter, Reading, Sample
from specbench_s2d.measure.energy.reading import net_of_idle, read_during
from specbench_s2d.measure.energy.trace import integrate_j

T = TypeVar("T")
SHORTEST_WINDOW_S = 0.2
"""Twice as long as a counter takes to be updated (ten times a second): a shorter window has no joules of its own."""

_RARELY = 0.01  # of the samples: clocks held down no more often spoil no figure


class WindowMeter:
    """Meters one window after another; `idle_power_w`: of the idle devices, None where it is not known.

    Without a meter, work is done and nothing is said of it.
    """

    def __init__(self, meter: EnergyMeter | None, idle_power_w: float | None = None) -> None:
        self._meter, self._idle_power_w = meter, idle_power_w
        self._windows = self._samples = 0
        self._clocks_mhz: dict[str, tuple[float, float]] = {}
        self._hottest_c: float | None = None
        self._throttled: set[str] = set()
        self._throttled_samples = 0

    def measure(self, work: Callable[[], T], wait: Callable[[], None]) -> tuple[T, dict[str, Any]]:
        """What `work` returns, and the record's fields of its energy, with their reasons.

        `wait`: for what the devices still have to do. The counter is read before and after the work, which has its own
        clock. Raises only what `work` and `wait` raise.
        """
        if self._meter is None:
            return work(), {}
        wait()
        done, reading = read_during(self._meter, work)
        self._note(reading.samples)
        return done, window_fields(reading, self._idle_power_w)

    @property
    def throttled(self) -> list[str]:
        """What held clocks down in more than a small share of the samples."""
        often = self._throttled_samples > _RARELY * self._samples
        return sorted(self._throttled) if often else []

    def facts(self) -> dict[str, Any]:
        """What the samples of all windows so far say besides power, for the manifest; empty without windows."""
        if not self._windows:
            return {}
        return {
            "power_samples": {
                "windows": self._windows,
                "samples": self._samples,
                "clocks_mhz": {name: list(ends) for name, ends in self._clocks_mhz.items()},
                "temperature_max_c": self._hottest_c,
                "throttled": sorted(self._throttled),
            }
        }

    def _note(self, samples: tuple[Sample, ...]) -> None:
        self._windows += 1
        self._samples += len(samples)
        for name, (low, high) in extremes(samples).items():
            lowest, highest = self._clocks_mhz.get(name, (low, high))
            self._clocks_mhz[name] = min(low, lowest), max(high, highest)
        temperatures = [self._hottest_c, *(sample.temperature_c for sample in samples)]
        self._hottest_c = max((one for one in temperatures if one is not None), default=None)
        self._throttled.update(*(sample.throttled for sample in samples))
        self._throttled_samples += sum(bool(sample.throttled) for sample in samples)


def window_fields(reading: Reading, idle_power_w: float | None) -> dict[str, Any]:
    """The fields of a record that a window's reading gives: `energy_s`, then joules, each None with its reason."""
    energy_j, reason, trace_reason = reading.counter_j, reading.reason, reading.trace_reason
    if 0 < reading.seconds < SHORTEST_WINDOW_S:
        short = f"its window of {reading.seconds:.2f} s is shorter than {SHORTEST_WINDOW_S:g} s, two updates of a meter"
        energy_j, reason, trace_reason = None, reason or short, trace_reason or short
    net_j, net_reason = net_of_idle(energy_j, reading.seconds, idle_power_w)
    trace_j = None if trace_reason else integrate_j(reading.samples)
    reasons = {
        "energy_s": None if 0 <= reading.seconds < math.inf else f"the meter's clock went on by {reading.seconds:g} s",
        "energy_j": reason,
        "energy_net_j": reason or net_reason,
        "energy_trace_j": trace_reason or (None if trace_j is not None else "fewer than two samples of power"),
    }
    return {
        "energy_s": reading.seconds if 0 <= reading.seconds < math.inf else None,
        "energy_j": energy_j,
        "energy_net_j": net_j,
        "energy_trace_j": trace_j,
        "reasons": {name: text for name, text in reasons.items() if text},
    }
