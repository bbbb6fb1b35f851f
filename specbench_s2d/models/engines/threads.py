"""How many threads a pass of one token is fastest on: of small matrices, waiting for many costs more than they gain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import torch

from specbench_s2d.models.pass_timer import Now, PassTimer


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


def most_threads() -> int:
    """Threads that torch may use and this process has cores for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(torch.get_num_threads(), cores)


def fastest_threads(
    run: Callable[[int], None], most: int | None = None, now: Now = perf_counter
) -> tuple[int, dict[int, float]]:
    """The number of threads at which `run(threads)` takes least, and the milliseconds (median) of each number tried.

    Tried are 1, 2, 4 … up to `most`, by default `most_threads()`; where that is one, nothing is timed.
    """
    most = most or most_threads()
    if most == 1:
        return 1, {}
    timer = PassTimer(torch.device("cpu"), now)
    candidates = sorted({most, *(2**i for i in range(most.bit_length()))})
    for threads in candidates:
        for _ in range(_TRIALS):
            timer.time(threads, partial(run, threads))
    times_ms = {threads: round(1e3 * timer.median_s(threads), 4) for threads in candidates}
    return min(times_ms, key=times_ms.__getitem__), times_ms
