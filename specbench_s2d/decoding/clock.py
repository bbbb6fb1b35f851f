"""Clocks for what a generation's parts take: marks now, seconds between them once it is over.

On a GPU the host runs ahead of the work it queues, so a host clock would need a synchronisation at every mark, which
slows down what it measures. A CUDA event is a mark in the GPU's own queue: it costs no wait, and is read afterwards.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Takes marks while work is queued, and tells the seconds between two of them when asked afterwards."""

    def mark(self) -> Any:
        """A moment, after all work queued so far; opaque, for `seconds` of the same clock."""
        ...

    def seconds(self, earlier: Any, later: Any) -> float:
        """Seconds from one mark to another; ask when the generation is over, for this may wait for the device."""
        ...


class HostClock:
    """The host's monotonic clock: for a CPU, whose work is done when the call returns."""

    def mark(self) -> float:
        return perf_counter()

    def seconds(self, earlier: float, later: float) -> float:
        return later - earlier


class CudaClock:
    """CUDA events on the device's current stream: the GPU's own time, taken without a wait.

    The first `seconds` that meets an unreached mark waits for it; once the last mark is reached, none waits.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, earlier: torch.cuda.Event, later: torch.cuda.Event) -> float:
        later.synchronize()
        return float(earlier.elapsed_time(later)) / 1000  # CUDA tells milliseconds


def clock_for(device: torch.device) -> Clock:
    """The clock for work on `device`: CUDA events on a GPU, the host's clock elsewhere."""
    return CudaClock(device) if device.type == "cuda" else HostClock()
