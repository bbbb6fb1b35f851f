"""How fast a device streams memory: the rate that bounds a decoding step, which must read every weight once.

The rate is measured over a buffer as large as what a step reads, so that a model that lives in a processor's cache is
held to the cache's rate; with the threads that the step uses; and again and again, for it differs from time to time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.decoding.clock import Clock, clock_for
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.devices import free_bytes
from specbench_s2d.models.engines.native_build import NoCompilerError, native_library
from specbench_s2d.models.engines.native_memory import PANEL, large_page_block, stream
from specbench_s2d.models.engines.threads import torch_threads

# The largest buffers: beyond these no cache holds a share of it that matters, and a larger one has the same rate.
CPU_BUFFER_BYTES = 2**30
GPU_BUFFER_BYTES = 2**30
_MEMORY_SHARE = 0.25
_ROW_BYTES = 4 * PANEL
# A round reads the buffer as often as makes this many bytes: some milliseconds on a CPU, and below one on a GPU.
CPU_ROUND_BYTES = 2**26
GPU_ROUND_BYTES = 2**30
FIRST_ROUNDS, LATER_ROUNDS = 15, 5
_PAUSE_S, _PAUSE_SHARE = 2.0, 30
REACHED, REACHED_BY = 10, 3

Read = Callable[[int], object]
"""Reads the buffer so many times over."""


class ReadRate:
    """The rate at which a device streams a buffer, measured in rounds that may be minutes apart.

    `wanted_bytes`: what a step reads. The buffer is of that size, but no larger than 1 GiB and a quarter of what `free`
    says is free; it is kept until this object goes. `threads`: of the step, on a CPU; torch's by default. `clock`: the
    device's own where none is given. On a CPU the kernel of the native engine reads, and torch's sum where there is no
    compiler; on a GPU torch's sum, whose launches slow down what is far below 64 MiB.
    """

    def __init__(
        self,
        device: str,
        wanted_bytes: int | None = None,
        threads: int | None = None,
        free: Callable[[str], int] = free_bytes,
        clock: Clock | None = None,
    ) -> None:
        place = torch.device(device)
        self._clock, self._threads = clock or clock_for(place), threads or torch.get_num_threads()
        self._bytes, self._reason = _fitting(device, wanted_bytes, free(device))
        self._way, self._read = _native(self._bytes, self._threads) if place.type == "cpu" else ("torch", None)
        if self._read is None:
            self._read = partial(_torch_sums, torch.ones(self._bytes // 4, device=place), self._threads)
        round_bytes = GPU_ROUND_BYTES if place.type == "cuda" else CPU_ROUND_BYTES
        self._passes = max(1, math.ceil(round_bytes / self._bytes))
        self._rates: list[float] = []
        self._due_s = 0.0

    def measure(self, rounds: int) -> None:
        """Time so many more rounds. Raises `UserError` where the clock did not go on in any round."""
        began_s = time.monotonic()
        assert self._read is not None
        for _ in range(rounds):
            before = self._clock.mark()
            self._read(self._passes)
            seconds = self._clock.seconds(before, self._clock.mark())
            if seconds > 0:  # else the clock went back, and the round says nothing
                self._rates.append(self._bytes * self._passes / seconds)
        if not self._rates:
            raise UserError(f"the clock stood still or went back in {rounds} rounds; mend the clock of this machine.")
        now_s = time.monotonic()
        self._due_s = now_s + max(_PAUSE_S, _PAUSE_SHARE * (now_s - began_s))

    def measure_if_due(self) -> None:
        """Time some more rounds where the last ones are two seconds past, and 30 times as long as they took."""
        if time.monotonic() >= self._due_s:
            self.measure(LATER_ROUNDS)

    @property
    def bytes_per_s(self) -> float:
        """The best rate so far that is reproducible (`reproducible`)."""
        return reproducible(self._rates)

    def facts(self) -> dict[str, Any]:
        """For the manifest: the rate, that of the slowest tenth of the rounds and of the fastest round, and over what.

        `reason`: why the buffer is smaller than a step's bytes; left out where it is not.
        """
        ranked = sorted(self._rates)
        return {
            "bytes_per_s": self.bytes_per_s,
            "low_bytes_per_s": ranked[len(ranked) // REACHED],
            "high_bytes_per_s": ranked[-1],
            "rounds": len(ranked),
            "buffer_bytes": self._bytes,
            "threads": self._threads,
            "read_by": self._way,
            **({"reason": self._reason} if self._reason else {}),
        }


def reproducible(rates: Sequence[float]) -> float:
    """The rate that one round in ten reaches or passes, and at least three do: the best that was not reached by luck.

    Of fewer than three rounds, the slowest."""
    ranked = sorted(rates, reverse=True)
    return ranked[min(len(ranked), max(REACHED_BY, math.ceil(len(ranked) / REACHED))) - 1]


def read_rate(device: str, wanted_bytes: int | None = None, threads: int | None = None) -> float:
    """Bytes per second of a streaming read, of 15 rounds on end; the buffer as in `ReadRate`."""
    rate = ReadRate(device, wanted_bytes, threads)
    rate.measure(FIRST_ROUNDS)
    return rate.bytes_per_s


def read_rate_of(model: LanguageModel, step_bytes: int) -> ReadRate:
    """The read rate that bounds a step of `model`, which reads `step_bytes` with its engine's threads."""
    threads = model.engine_facts.get("threads")
    return ReadRate(str(model.device), step_bytes, threads if isinstance(threads, int) else None)


def _fitting(device: str, wanted: int | None, free: int) -> tuple[int, str | None]:
    """The buffer's bytes, in full rows, and why memory allows no more."""
    largest = GPU_BUFFER_BYTES if device.startswith("cuda") else CPU_BUFFER_BYTES
    size = min(wanted or largest, largest)
    room = int(free * _MEMORY_SHARE)
    if size <= room:
        return _rows(size), None
    return _rows(room), f"a buffer of {room / 2**20:,.0f} MiB, not {size / 2**20:,.0f}: {free / 2**20:,.0f} are free"


def _rows(size: int) -> int:
    return max(1, math.ceil(size / _ROW_BYTES)) * _ROW_BYTES


def _native(size: int, threads: int) -> tuple[str, Read | None]:
    """Reads a buffer of `size` bytes with the native kernel; None without a compiler. The buffer is written first:
    unwritten pages are all one page of zeros, which a cache holds."""
    try:
        kernel = native_library()
    except NoCompilerError:
        return "torch", None
    block, _ = large_page_block(size // 4, kernel)
    block.fill_(1.0)
    return "native", lambda passes: stream(block, threads, passes, kernel)


def _torch_sums(buffer: Tensor, threads: int, passes: int) -> None:
    with torch_threads(threads if buffer.device.type == "cpu" else None):
        for _ in range(passes):
            buffer.sum()
