"""Times of the parts of a step, taken without making the host wait for the device.

A mark is set at the end of each part, and the seconds between marks are computed after the generation. On a CPU a mark
is the time; on a GPU, where kernels run asynchronously, it is a CUDA event on the stream (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import torch

Mark = Any
"""A moment that only the clock that set it can read."""


class Clock(Protocol):
    """Marks on the time of one device."""

    def mark(self) -> Mark:
        """The moment at which the work queued so far ends."""
        ...

    def wait(self) -> None:
        """Return when the device has finished all queued work."""
        ...

    def seconds(self, first: Mark, last: Mark) -> float:
        """Seconds from one mark to a later one; waits until the device has passed the later."""
        ...


class HostClock:
    """The clock of a CPU, where every call returns with its work done."""

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now = now

    def mark(self) -> float:
        return self._now()

    def wait(self) -> None:
        return None

    def seconds(self, first: float, last: float) -> float:
        return last - first


class CudaClock:
    """CUDA events on the current stream of a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait(self) -> None:
        torch.cuda.synchronize(self._device)

    def seconds(self, first: torch.cuda.Event, last: torch.cuda.Event) -> float:
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000  # elapsed_time is in milliseconds


def clock_for(device: torch.device) -> Clock:
    """The clock of a device."""
    return CudaClock(device) if device.type == "cuda" else HostClock()
