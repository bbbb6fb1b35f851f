"""Seconds that passes take on a device, by name, over rounds: the one timer of whatever chooses or projects by them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from statistics import median
from time import perf_counter

import torch

Now = Callable[[], float]
"""A clock that gives seconds, such as `time.perf_counter`."""


class PassTimer:
    """Times work from a device at rest to a device at rest, and keeps the seconds of each name in the order they came.

    `now`: the clock; a test gives its own.
    """

    def __init__(self, device: torch.device, now: Now = perf_counter) -> None:
        self._device, self._now = device, now
        self._seconds: dict[Hashable, list[float]] = defaultdict(list)

    def time(self, name: Hashable, work: Callable[[], object], parts: int = 1) -> None:
        """Time `work` once under `name`; `parts`: what it is made of, of which one is kept."""
        self._wait()
        began = self._now()
        work()
        self._wait()
        self._seconds[name].append((self._now() - began) / parts)

    def rounds(self, one_round: Callable[[], object], rounds: int, warm_up: int) -> None:
        """Do `one_round` this often, after `warm_up` rounds whose seconds are not kept."""
        for _ in range(warm_up):
            one_round()
        self._seconds.clear()
        for _ in range(rounds):
            one_round()

    def rounds_s(self, name: Hashable) -> tuple[float, ...]:
        """The seconds of a name, one value each time it was timed."""
        return tuple(self._seconds[name])

    def median_s(self, name: Hashable) -> float:
        """Their median."""
        return median(self._seconds[name])

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
