"""Where a run's time went: what was measured, and what the harness itself took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PARTS = ("loading", "warm_up", "probing", "decoding", "scoring", "energy")


class PhaseTimer:
    """Seconds by part, from its making on. What no part claims is the harness's own: `other_s`.

    `loading`: weights from disk. `warm_up`: untimed generations before the first timed one. `probing`: measuring the
    machine (read rate, conditions, the noise bound). `decoding`: prefill and steps, the timed windows. `scoring`: the
    teacher-forced pass and task quality. `energy`: the energy pass.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._spent = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """What happens inside belongs to `part`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent[part] += max(time.perf_counter() - began, 0.0)

    def add(self, part: str, seconds: float) -> None:
        """Seconds that were measured elsewhere."""
        self._spent[part] += seconds

    def leave_out(self, seconds: float) -> None:
        """Seconds that just went by in waiting for others' work: no part of this one's time."""
        self._began += seconds

    def facts(self, before: Mapping[str, float] | None = None) -> dict[str, float]:
        """Seconds by part, in all (`loop_s`), and of the harness itself (`other_s`); those of earlier launches of the
        run (`before`) added."""
        loop_s = max(time.perf_counter() - self._began, sum(self._spent.values()))  # the clock may have gone back
        parts = {f"{part}_s": seconds for part, seconds in self._spent.items()}
        own = {**parts, "loop_s": loop_s, "other_s": loop_s - sum(self._spent.values())}
        return {name: seconds + (before or {}).get(name, 0.0) for name, seconds in own.items()}
