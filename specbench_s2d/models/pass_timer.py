"""The timer of passes: seconds by name over rounds, for whatever chooses, decides or projects by what passes cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from statistics import median
from time import perf_counter

import torch

Now = Callable[[], float]
"""A clock that gives seconds, such as `time.perf_counter`."""
LEAST_S = 1e-9
"""What a call takes at least: a clock that stands still or goes back divides by nothing."""


class PassTimer:
    """Times calls with the device synchronised at both ends, and keeps the seconds of each name.

    `now`: the clock, in seconds.
    """

    def __init__(self, device: torch.device, now: Now = perf_counter) -> None:
        self._device, self._now = device, now
        self._seconds: dict[Hashable, list[float]] = defaultdict(list)

    def time(self, name: Hashable, work: Callable[[], object], parts: int = 1) -> None:
        """Time `work` once under `name`; `parts`: into how many equal parts its seconds are divided, to keep one."""
        self._wait()
        began = self._now()
        work()
        self._wait()
        self._seconds[name].append(max(self._now() - began, LEAST_S) / parts)

    def rounds(self, one_round: Callable[[], object], rounds: int, warm_up: int) -> None:
        """Call `one_round` so many times, after `warm_up` calls whose seconds are not kept."""
        for _ in range(warm_up):
            one_round()
        self._seconds.clear()
        for _ in range(rounds):
            one_round()

    def rounds_s(self, name: Hashable) -> tuple[float, ...]:
        """The seconds of a name, one value for each time it was timed."""
        return tuple(self._seconds[name])

    def median_s(self, name: Hashable) -> float:
        """Their median."""
        return median(self._seconds[name])

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
