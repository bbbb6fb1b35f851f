"""What a pass costs on this machine, in seconds: measured before the first answer, then moved by every step.

The draft's first pass after a target pass is a case of its own (`cold`): the target's weights have just pushed the
draft's out of the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import torch

from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.nested import NestedDraft

ROUNDS = 5
WEIGHT = 0.05  # of a new observation
OUTLIER = 3.0  # an observation counts as this many times the figure at most
_MORE = 3  # further positions, to tell what each costs


class PassCosts:
    """Seconds of a target pass by its width, and of a draft stage (its exit check included) by what it runs.

    `verify_s[w - 1]`: a pass over w positions, judged. `cold_s[i]` and `warm_s[i]`: stage i over one position, first
    after a target pass and later; `more_s[i]`: each further position.
    """

    def __init__(
        self, verify_s: Sequence[float], cold_s: Sequence[float], warm_s: Sequence[float], more_s: Sequence[float]
    ) -> None:
        self._measured_s, self._drift = list(verify_s), 1.0
        self._seen_s: dict[int, float] = {}
        self.cold_s, self.warm_s, self.more_s = list(cold_s), list(warm_s), list(more_s)

    def verify(self, width: int) -> float:
        """A target pass over `width` positions; a width that no step has had is taken to drift as the others did."""
        at = min(width, len(self._measured_s))
        return self._seen_s.get(at, self._measured_s[at - 1] * self._drift)

    def stage(self, stage: int, positions: int, cold: bool) -> float:
        """Draft stage `stage` over `positions` positions."""
        return (self.cold_s if cold else self.warm_s)[stage] + (positions - 1) * self.more_s[stage]

    def saw_verify(self, width: int, seconds: float) -> None:
        """A step's target pass took this long."""
        at = min(width, len(self._measured_s))
        self._drift = _moved(self._drift, seconds / self._measured_s[at - 1])
        self._seen_s[at] = _moved(self.verify(at), seconds)

    def saw_stage(self, stage: int, positions: int, cold: bool, seconds: float) -> None:
        """A draft stage took this long."""
        own_s = self.cold_s if cold else self.warm_s
        own_s[stage] = _moved(own_s[stage], max(0.0, seconds - (positions - 1) * self.more_s[stage]))

    def facts(self) -> dict[str, Any]:
        """The figures as they stand now, for the manifest."""
        widths = range(1, len(self._measured_s) + 1)
        return {
            "verify_s": {width: self.verify(width) for width in widths},
            "stage_cold_s": self.cold_s,
            "stage_warm_s": self.warm_s,
            "stage_more_s": self.more_s,
        }


def _moved(old: float, seen: float) -> float:
    return old + WEIGHT * (min(seen, OUTLIER * old) - old)


def measure_costs(target: LanguageModel, nested: NestedDraft, prompt_ids: Sequence[int], widest: int) -> PassCosts:
    """Time target passes of 1 to `widest` positions and every draft stage after `prompt_ids`, as a step takes them.

    Target and draft alternate, so that each finds the processor's cache as it will in the loop. Medians of `ROUNDS`
    rounds after one to warm up. Leaves both caches empty.
    """
    target.reset()
    target.extend(torch.tensor([list(prompt_ids)], device=target.device), last_only=True)
    nested.prefill(torch.tensor([list(prompt_ids)], device=target.device))
    start, ids = len(prompt_ids), list(prompt_ids[-1:])
    rounds = [_one_round(target, nested, start, ids, widest) for _ in range(ROUNDS + 1)][1:]
    target.reset()
    nested.model.reset()
    verify_s, cold_s, warm_s, wide_s = ([median(column) for column in zip(*part, strict=True)] for part in zip(*rounds, strict=True))
    more_s = [max(0.0, wide - warm) / _MORE for wide, warm in zip(wide_s, warm_s, strict=True)]
    return PassCosts(verify_s, cold_s, warm_s, more_s)


def _one_round(
    target: LanguageModel, nested: NestedDraft, start: int, ids: list[int], widest: int
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Seconds by width; then by stage: the first pass after a target pass, the next one, and one over more positions."""

    def verify(width: int) -> float:
        ids_BT = torch.tensor([ids * width], device=target.device)
        seconds = timed(lambda: target.extend(ids_BT)[0].argmax(-1).tolist())
        target.rollback(start)
        return seconds

    def draft(positions: int) -> list[float]:
        ids_BT = torch.tensor([ids * positions], device=target.device)
        return [
            timed(lambda stage=stage: (nested.run(stage, ids_BT if stage == 0 else None), nested.most_likely()))
            for stage in range(len(nested.exits))
        ]

    verify_s, cold_s = [], []
    for width in range(1, widest + 1):
        verify_s.append(verify(width))
        cold_s.append(draft(1))
        warm_s = draft(1)
        wide_s = draft(1 + _MORE)
        nested.rollback(start)
    return verify_s, [median(column) for column in zip(*cold_s, strict=True)], warm_s, wide_s


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes; it ends with something read back, so that a device has finished it."""
    started = perf_counter()
    work()
    return perf_counter() - started
