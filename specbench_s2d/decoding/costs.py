"""Costs of passes for `s2d-auto`: measured before the first generation, and updated by every step.

The draft's first pass after a target pass is measured separately (`cold`), because the target's weights have just
evicted the draft's from the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.errors import PromptTooLongError
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.engines.threads import common_threads, torch_threads
from specbench_s2d.models.nested import NestedDraft
from specbench_s2d.models.pass_timer import Now, PassTimer

ROUNDS = 12
LEVEL_WEIGHT, SHAPE_WEIGHT = 0.25, 0.02  # of a new observation
OUTLIER = 3.0  # an observation counts as at most this many times the expected cost
_MORE = 3  # further positions of a wide draft pass, from which the cost of each is computed


class OnlineCosts:
    """Running estimates of pass costs, in seconds at `level` 1.

    `level`: how many times slower the machine is now than when the costs were measured (clock frequency, other load, a
    longer context). An observation moves the level quickly and its own cost slowly, so that costs observed at different
    times stay comparable. `verify_s[w - 1]`: a target pass over w positions with its verdict. `cold_s[i]`, `warm_s[i]`:
    draft stage i with its exit check over one position, first after a target pass or later. `more_s[i]`: each further
    position.
    """

    def __init__(
        self, verify_s: Sequence[float], cold_s: Sequence[float], warm_s: Sequence[float], more_s: Sequence[float]
    ) -> None:
        self.verify_s, self.cold_s, self.warm_s, self.more_s = list(verify_s), list(cold_s), list(warm_s), list(more_s)
        self.level = 1.0

    def verify(self, width: int) -> float:
        """Seconds of a target pass over `width` positions."""
        return self.verify_s[min(width, len(self.verify_s)) - 1]

    def stage(self, stage: int, positions: int, cold: bool) -> float:
        """Seconds of draft stage `stage` over `positions` positions."""
        return (self.cold_s if cold else self.warm_s)[stage] + (positions - 1) * self.more_s[stage]

    def observe_verify(self, width: int, seconds: float) -> None:
        """Record the seconds of a step's target pass."""
        i = min(width, len(self.verify_s)) - 1
        seconds = min(seconds, OUTLIER * self.level * self.verify_s[i])
        self.level += LEVEL_WEIGHT * (seconds / self.verify_s[i] - self.level)
        self.verify_s[i] += SHAPE_WEIGHT * (seconds / self.level - self.verify_s[i])

    def observe_stage(self, stage: int, positions: int, cold: bool, seconds: float) -> None:
        """Record the seconds of a draft stage."""
        own_s = self.cold_s if cold else self.warm_s
        more_s = (positions - 1) * self.more_s[stage]
        seen_s = min(seconds / self.level, OUTLIER * (own_s[stage] + more_s))
        own_s[stage] += SHAPE_WEIGHT * (max(seen_s - more_s, 0.0) - own_s[stage])

    def facts(self) -> dict[str, Any]:
        """The present costs in seconds, for the manifest."""
        now = {"verify_s": self.verify_s, "cold_s": self.cold_s, "warm_s": self.warm_s, "more_s": self.more_s}
        return {name: [cost * self.level for cost in costs] for name, costs in now.items()}


def measure_costs(
    target: LanguageModel, nested: NestedDraft, prompt_ids: Sequence[int], widest: int, now: Now = perf_counter
) -> OnlineCosts:
    """Time target passes over 1 to `widest` positions and every draft stage after `prompt_ids`, in the order of a step.

    Target and draft alternate, so that the processor's cache is as it will be in the loop. Medians of `ROUNDS` rounds
    after a warm-up round; the prompt is cut where the context window has no room for them. Leaves both caches empty.
    """
    room = min(target.context, nested.model.context) - max(widest, 3 + _MORE)
    if room < 1:
        raise PromptTooLongError(
            f"passes over {widest} positions cannot be measured in a context of {room + max(widest, 3 + _MORE)}; "
            "lower s2d-auto's gamma."
        )
    prompt_ids = prompt_ids[:room]
    target.reset()
    target.extend(torch.tensor([list(prompt_ids)], device=target.device), last_only=True)
    nested.prefill(prompt_ids)
    start, ids = len(prompt_ids), list(prompt_ids[-1:])
    timer = PassTimer(target.device, now)
    with torch_threads(common_threads((target.torch_threads, nested.model.torch_threads))):  # as in the loop
        timer.rounds(lambda: _one_round(timer, target, nested, start, ids, widest), ROUNDS, warm_up=1)
    target.reset()
    nested.model.reset()
    verify_s = [timer.median_s(("verify", width)) for width in range(1, widest + 1)]
    cold_s, warm_s, wide_s = (
        [timer.median_s((kind, stage)) for stage in range(len(nested.exits))] for kind in ("cold", "warm", "wide")
    )
    more_s = [max(0.0, wide - warm) / _MORE for wide, warm in zip(wide_s, warm_s, strict=True)]
    return OnlineCosts(verify_s, cold_s, warm_s, more_s)


def _one_round(
    timer: PassTimer, target: LanguageModel, nested: NestedDraft, start: int, ids: list[int], widest: int
) -> None:
    """Time target passes by width, and after each the draft stages: cold, warm, and warm over more positions."""
    for width in range(1, widest + 1):
        ids_BT = torch.tensor([ids * width], device=target.device)
        for _ in range(2 if width == 1 else 0):  # a step without a draft usually follows other such steps
            _verify(target, ids_BT)
            target.rollback(start)
        timer.time(("verify", width), partial(_verify, target, ids_BT))
        target.rollback(start)
        for kind, positions in (("cold", 1), ("warm", 1), ("wide", 1 + _MORE)):
            for stage in range(len(nested.exits)):
                timer.time((kind, stage), partial(_read_stage, nested, stage, ids * positions))
        nested.rollback(start)


def _verify(target: LanguageModel, ids_BT: Tensor) -> None:
    target.extend(ids_BT)[0].argmax(-1).tolist()  # copied to the host, as a verdict is


def _read_stage(nested: NestedDraft, stage: int, ids: list[int]) -> None:
    nested.read(stage, ids).packed_2RK.tolist()
