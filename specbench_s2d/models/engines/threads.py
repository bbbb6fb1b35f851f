"""How many threads a pass of one token is fastest on: of small matrices, waiting for many costs more than they gain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import torch

from specbench_s2d.cgroup import allowed_cores
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


_ROUNDS = 4  # timed passes of each number of threads in one look
_MOST_LOOKS = 6
_SAME = 1.1  # two looks agree where no number's least time in one is beyond this share of that in the other


def most_threads() -> int:
    """Threads that torch may use and this process has cores for."""
    return min(torch.get_num_threads(), allowed_cores())


def fastest_threads(
    run: Callable[[int], None], most: int | None = None, now: Now = perf_counter
) -> tuple[int, dict[int, float]]:
    """The number of threads at which `run(threads)` takes least, and the least milliseconds of each number tried.

    Tried are 1, 2, 4 … up to `most`, by default `most_threads()`, in turns; where that is one, nothing is timed. Other
    work on the machine slows down many threads most, so a look counts when another one agrees: there are two to six,
    and the least of all decides.
    """
    most = most or most_threads()
    if most == 1:
        return 1, {}
    candidates = sorted({most, *(2**i for i in range(most.bit_length()))})
    looks = [_look(run, candidates, now)]
    while len(looks) < 2 or (len(looks) < _MOST_LOOKS and not _any_agree(looks)):
        looks.append(_look(run, candidates, now))
    times_ms = {threads: round(1e3 * min(look[threads] for look in looks), 4) for threads in candidates}
    return min(times_ms, key=times_ms.__getitem__), times_ms


def _look(run: Callable[[int], None], candidates: Sequence[int], now: Now) -> dict[int, float]:
    """The least seconds of each number of threads over some rounds."""
    timer = PassTimer(torch.device("cpu"), now)
    for _ in range(_ROUNDS):
        for threads in candidates:
            run(threads)  # after a change, threads wake up and memory is reserved
            timer.time(threads, partial(run, threads))
    return {threads: min(timer.rounds_s(threads)) for threads in candidates}


def _any_agree(looks: Sequence[dict[int, float]]) -> bool:
    """Whether the last look confirms an earlier one, and no look found a number much faster than both did."""
    last, least = looks[-1], {threads: min(look[threads] for look in looks) for threads in looks[-1]}
    return any(
        all(max(earlier[threads], last[threads]) <= _SAME * least[threads] for threads in last)
        for earlier in looks[:-1]
    )
