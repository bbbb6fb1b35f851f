"""When the parts of a step happened, without making a device wait.

A mark is set where a part ends; seconds between marks are asked for after the generation. On a CPU a mark is the time.
On a GPU, whose work runs behind the host's, it is an event on the stream: designed so that a part's seconds are those
of its kernels, and the loop waits no more often than the method itself does; not measured on one.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Protocol

import torch

Mark = Any
"""What a clock gives out and takes back; of no meaning elsewhere."""


class Clock(Protocol):
    """Marks on one device's time."""

    def mark(self) -> Mark:
        """This moment, after all work asked for so far."""
        ...

    def wait(self) -> None:
        """Return when the device has finished all work asked for."""
        ...

    def seconds(self, first: Mark, last: Mark) -> float:
        """Seconds from one mark to a later one; waits for the later where it has not passed."""
        ...


class HostClock:
    """The processor's own: what it was asked for is done when it goes on."""

    def mark(self) -> float:
        return perf_counter()

    def wait(self) -> None:
        return None

    def seconds(self, first: float, last: float) -> float:
        return last - first


class CudaClock:
    """Events on the current stream of a CUDA device."""

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
        return float(first.elapsed_time(last)) / 1000  # CUDA tells milliseconds


def clock_for(device: torch.device) -> Clock:
    """The clock that sees when a device's work is done."""
    return CudaClock(device) if device.type == "cuda" else HostClock()
