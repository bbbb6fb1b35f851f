"""How fast a device streams memory: the rate that bounds a decoding step, which must read every weight once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from specbench_s2d.decoding.clock import Clock, clock_for
from specbench_s2d.models.devices import free_bytes

# Well above any cache: a last-level cache of 256 MiB holds at most a quarter of the CPU's buffer.
CPU_BUFFER_BYTES = 2**30
GPU_BUFFER_BYTES = 2**33
_LEAST_BUFFER_BYTES = 2**24
_MEMORY_SHARE = 0.5
_MOST_ROUNDS, _LEAST_ROUNDS, _ROUNDS_S = 10, 3, 0.5


@dataclass(frozen=True)
class Rates:
    """Bytes per second, best of several rounds over one buffer; a copy counts what it reads and what it writes.

    `reason`: why the buffer is smaller than asked for; None when it is not.
    """

    read_bytes_per_s: float
    copy_bytes_per_s: float
    buffer_bytes: int
    reason: str | None = None


def rates(
    device: str, buffer_bytes: int | None = None, free: Callable[[str], int] = free_bytes, clock: Clock | None = None
) -> Rates:
    """The read and the copy rate of `device`, with torch's threads as they are; a second or two.

    The buffer is 1 GiB on a CPU and 8 GiB on a GPU unless said otherwise, and never above half of the memory that
    `free` says is free. `clock`: the device's own where none is given.
    """
    size, reason = _fitting(buffer_bytes or usual_buffer_bytes(device), free(device))
    read, copy = _measured(device, size, clock, _read, _copy)
    return Rates(read, copy, size, reason)


def read_rate(device: str, buffer_bytes: int | None = None, clock: Clock | None = None) -> float:
    """Bytes per second of a streaming read alone; the buffer as in `rates`."""
    size, _ = _fitting(buffer_bytes or usual_buffer_bytes(device), free_bytes(device))
    (read,) = _measured(device, size, clock, _read)
    return read


def usual_buffer_bytes(device: str) -> int:
    """The buffer that a device's rates are measured over."""
    return GPU_BUFFER_BYTES if device.startswith("cuda") else CPU_BUFFER_BYTES


def copy_first_half(buffer: torch.Tensor) -> None:
    """Overwrite a buffer's second half by its first."""
    half = buffer.numel() // 2
    buffer[half : 2 * half].copy_(buffer[:half])


def _measured(
    device: str, size: int, clock: Clock | None, *rate_of: Callable[[torch.Tensor, Clock], float]
) -> list[float]:
    """Each rate over a buffer of `size` bytes, whose memory is given back."""
    place = torch.device(device)
    try:
        return _each(rate_of, size, place, clock or clock_for(place))
    finally:
        if place.type == "cuda":
            torch.cuda.empty_cache()  # torch would keep the buffer reserved, and the models need the room


def _each(
    rate_of: Sequence[Callable[[torch.Tensor, Clock], float]], size: int, device: torch.device, clock: Clock
) -> list[float]:
    """The rates over a buffer that is written first: unwritten pages are all one page of zeros, which a cache holds."""
    buffer = torch.ones(size // 4, dtype=torch.float32, device=device)
    return [rate(buffer, clock) for rate in rate_of]


def _fitting(wanted: int, free: int) -> tuple[int, str | None]:
    """The buffer's bytes, a multiple of the least one, and why they are not `wanted`."""
    if wanted <= free * _MEMORY_SHARE:
        return wanted, None
    size = max(_LEAST_BUFFER_BYTES, int(free * _MEMORY_SHARE) // _LEAST_BUFFER_BYTES * _LEAST_BUFFER_BYTES)
    return size, f"a buffer of {size / 2**20:,.0f} MiB, not {wanted / 2**20:,.0f}: {free / 2**20:,.0f} MiB were free"


def _read(buffer: torch.Tensor, clock: Clock) -> float:
    return buffer.nbytes / _best_s(buffer.sum, clock)


def _copy(buffer: torch.Tensor, clock: Clock) -> float:
    """From one half into the other: half is read, half is written."""
    return buffer.nbytes / _best_s(lambda: copy_first_half(buffer), clock)


def _best_s(work: Callable[[], object], clock: Clock) -> float:
    """Seconds of the fastest round; rounds stop after half a second, but not before the third."""
    rounds_s: list[float] = []
    while len(rounds_s) < _MOST_ROUNDS and (len(rounds_s) < _LEAST_ROUNDS or sum(rounds_s) <= _ROUNDS_S):
        before = clock.mark()
        work()
        rounds_s.append(clock.seconds(before, clock.mark()))
    return min(rounds_s)
