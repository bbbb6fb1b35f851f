"""How fast a device streams memory: the rate that bounds a decoding step, which must read every weight once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from specbench_s2d.decoding.clock import clock_for
from specbench_s2d.models.devices import free_bytes

# Well above any cache: a last-level cache of 256 MiB holds a quarter of the CPU's buffer at most.
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


def rates(device: str, buffer_bytes: int | None = None) -> Rates:
    """The read and the copy rate of `device`, with torch's threads as they are; a second or two.

    The buffer is 1 GiB on a CPU and 8 GiB on a GPU unless said otherwise, and never above half of the free memory.
    """
    size, reason, (read, copy) = _measured(torch.device(device), buffer_bytes, _read, _copy)
    return Rates(read, copy, size, reason)


def read_rate(device: str, buffer_bytes: int | None = None) -> float:
    """Bytes per second of a streaming read alone; the buffer as in `rates`."""
    _, _, (read,) = _measured(torch.device(device), buffer_bytes, _read)
    return read


def _measured(
    device: torch.device, wanted: int | None, *rate_of: Callable[[torch.Tensor], float]
) -> tuple[int, str | None, list[float]]:
    """The buffer's bytes, why they are not `wanted`, and each rate over that buffer; its memory is given back."""
    size, reason = _fitting(wanted or _usual_bytes(device), free_bytes(str(device)))
    try:
        return size, reason, _each(rate_of, size, device)
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # torch would keep the buffer for itself, and the models need the room


def _each(rate_of: Sequence[Callable[[torch.Tensor], float]], size: int, device: torch.device) -> list[float]:
    """The rates over a buffer written throughout: pages never written are one page of zeros, which a cache holds."""
    buffer = torch.ones(size // 4, dtype=torch.float32, device=device)
    return [rate(buffer) for rate in rate_of]


def _usual_bytes(device: torch.device) -> int:
    return GPU_BUFFER_BYTES if device.type == "cuda" else CPU_BUFFER_BYTES


def _fitting(wanted: int, free: int) -> tuple[int, str | None]:
    """The buffer's bytes, a multiple of the least one, and why they are not `wanted`."""
    if wanted <= free * _MEMORY_SHARE:
        return wanted, None
    size = max(_LEAST_BUFFER_BYTES, int(free * _MEMORY_SHARE) // _LEAST_BUFFER_BYTES * _LEAST_BUFFER_BYTES)
    return size, f"a buffer of {size / 2**20:,.0f} MiB, not {wanted / 2**20:,.0f}: {free / 2**20:,.0f} MiB were free"


def _read(buffer: torch.Tensor) -> float:
    return buffer.nbytes / _best_s(lambda: buffer.sum(), buffer.device)


def _copy(buffer: torch.Tensor) -> float:
    """From one half into the other: half is read, half is written."""
    half = buffer.numel() // 2
    return buffer.nbytes / _best_s(lambda: buffer[half : 2 * half].copy_(buffer[:half]), buffer.device)


def _best_s(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest round; rounds stop after half a second, but not before the third."""
    clock, best, started = clock_for(device), float("inf"), time.monotonic()
    for done in range(_MOST_ROUNDS):
        if done >= _LEAST_ROUNDS and time.monotonic() - started > _ROUNDS_S:
            break
        before = clock.mark()
        work()
        best = min(best, clock.seconds(before, clock.mark()))
    return best
