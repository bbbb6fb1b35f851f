"""How many threads a pass of one token is fastest on: small matrices gain little from many, whose meeting costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter

import torch


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Torch's intra-op threads set to `count` for a while; None leaves them."""
    before = torch.get_num_threads()
    if count is not None and count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def common_threads(counts: Iterable[int | None]) -> int | None:
    """What torch's threads are set to where several models take turns: the most that one of them wants; None where one
    wants them left."""
    wanted = list(counts)
    return None if None in wanted else max(filter(None, wanted), default=None)


_TRIALS = 15  # timed passes of each number of threads


def fastest_threads(run: Callable[[int], None]) -> tuple[int, dict[int, float]]:
    """The number of threads at which `run(threads)` takes least, and the milliseconds (median) of all that were tried.

    Tried are 1, 2, 4 … up to those that torch may use and this process has; where that is one, nothing is timed.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(torch.get_num_threads(), allowed)
    if most == 1:
        return 1, {}
    times_ms = {threads: _median_ms(run, threads) for threads in _candidates(most)}
    return min(times_ms, key=times_ms.__getitem__), times_ms


def _candidates(most: int) -> list[int]:
    return sorted({most, *(2**i for i in range(most.bit_length()))})


def _median_ms(run: Callable[[int], None], threads: int) -> float:
    seconds = []
    for _ in range(_TRIALS):
        began = perf_counter()
        run(threads)
        seconds.append(perf_counter() - began)
    return round(1e3 * median(seconds), 4)
