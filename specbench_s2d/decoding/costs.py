"""Costs of passes, by which drafters choose: measured before the first generation, and updated by every step.

The draft's first pass after a target pass is measured separately (`cold`), because the target's weights have just
evicted the draft's from the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specbench_s2d.errors import PromptTooLongError
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.engines.threads import common_threads, torch_threads
from specbench_s2d.models.nested import NestedDraft
from specbench_s2d.models.pass_timer import Now, PassTimer

ROUNDS = 12
LEVEL_WEIGHT, SHAPE_WEIGHT = 0.25, 0.02  # of a new observation
RATE_MEMORY_STEPS = 500
"""Time constant of the average that the run's rate is, in steps."""
OUTLIER = 3.0  # an observation counts as at most this many times the expected cost
_MORE = 3  # further positions of a wide draft pass, from which the cost of each is computed


class VerifyCosts:
    """Running estimates of what target passes cost, in seconds at `level` 1.

    `level`: how many times slower the machine is now than when the costs were measured (clock frequency, other load, a
    longer context). An observation moves the level quickly and its own cost slowly, so that costs observed at different
    times stay comparable. `verify_s[w - 1]`: a target pass over w positions with its verdict.
    """

    def __init__(self, verify_s: Sequence[float]) -> None:
        self.verify_s = list(verify_s)
        self.level = 1.0

    def verify(self, width: int) -> float:
        """Seconds of a target pass over `width` positions."""
        return self.verify_s[min(width, len(self.verify_s)) - 1]

    def observe_verify(self, width: int, seconds: float) -> None:
        """Record the seconds of a step's target pass; of a clock that did not go on, nothing."""
        if seconds <= 0:
            return
        i = min(width, len(self.verify_s)) - 1
        seconds = min(seconds, OUTLIER * self.level * self.verify_s[i])
        self.level += LEVEL_WEIGHT * (seconds / self.verify_s[i] - self.level)
        self.verify_s[i] += SHAPE_WEIGHT * (seconds / self.level - self.verify_s[i])

    def facts(self) -> dict[str, Any]:
        """The present costs in seconds, for the manifest."""
        return {"verify_s": [cost * self.level for cost in self.verify_s]}


class OnlineCosts(VerifyCosts):
    """Those of a nested draft as well. `cold_s[i]`, `warm_s[i]`: draft stage i with its exit check over one position,
    first after a target pass or later. `more_s[i]`: each further position."""

    def __init__(
        self, verify_s: Sequence[float], cold_s: Sequence[float], warm_s: Sequence[float], more_s: Sequence[float]
    ) -> None:
        super().__init__(verify_s)
        self.cold_s, self.warm_s, self.more_s = list(cold_s), list(warm_s), list(more_s)

    def stage(self, stage: int, positions: int, cold: bool) -> float:
        """Seconds of draft stage `stage` over `positions` positions."""
        return (self.cold_s if cold else self.warm_s)[stage] + (positions - 1) * self.more_s[stage]

    def observe_stage(self, stage: int, positions: int, cold: bool, seconds: float) -> None:
        """Record the seconds of a draft stage, likewise."""
        if seconds <= 0:
            return
        own_s = self.cold_s if cold else self.warm_s
        more_s = (positions - 1) * self.more_s[stage]
        seen_s = min(seconds / self.level, OUTLIER * (own_s[stage] + more_s))
        own_s[stage] += SHAPE_WEIGHT * (max(seen_s - more_s, 0.0) - own_s[stage])

    def facts(self) -> dict[str, Any]:
        """The present costs in seconds, for the manifest."""
        now = {"cold_s": self.cold_s, "warm_s": self.warm_s, "more_s": self.more_s}
        return super().facts() | {name: [cost * self.level for cost in costs] for name, costs in now.items()}


class RunRate:
    """Tokens per second of the run so far, its older steps fading; a step lasts from one `lap` to the next."""

    def __init__(self, now: Now = perf_counter) -> None:
        self._now = now
        self._tokens, self._seconds = 0.0, 0.0
        self._of_step = 0
        self._began: float | None = None

    def start(self) -> None:
        """Begin a generation: what lies before it is no step."""
        self._began = None

    def lap(self, level: float) -> None:
        """End the last step, if there was one, and begin the next; `level`: as in `VerifyCosts`."""
        now = self._now()
        if self._began is not None:
            fade = 1 - 1 / RATE_MEMORY_STEPS
            self._tokens = self._tokens * fade + self._of_step
            self._seconds = self._seconds * fade + max(now - self._began, 0.0) / level
        self._began = now

    def emitted(self, tokens: int) -> None:
        """Record what the present step gave."""
        self._of_step = tokens

    def per_second(self, costs: VerifyCosts) -> float:
        """The rate at the costs' level 1; at least that of the target alone."""
        alone = 1 / costs.verify(1)
        return max(alone, self._tokens / self._seconds) if self._seconds else alone


def measure_verify(
    target: LanguageModel, prompt_ids: Sequence[int], widths: Sequence[int], now: Now = perf_counter
) -> VerifyCosts:
    """Time target passes over each of `widths` positions after `prompt_ids`; between two of them, costs are
    interpolated. Medians of `ROUNDS` rounds after a warm-up round; leaves the cache empty."""
    start, ids = _prefill(target, _with_room(prompt_ids, target.context, widths[-1]))
    timer = PassTimer(target.device, now)

    def one_round() -> None:
        for width in widths:
            ids_BT = torch.tensor([ids * width], device=target.device)
            timer.time(width, partial(_verify, target, ids_BT))
            target.rollback(start)

    with torch_threads(common_threads((target.torch_threads,))):  # as in the loop
        timer.rounds(one_round, ROUNDS, warm_up=1)
    target.reset()
    measured_s = [timer.median_s(width) for width in widths]
    return VerifyCosts(np.interp(range(1, widths[-1] + 1), widths, measured_s).tolist())


def _with_room(prompt_ids: Sequence[int], context: int, positions: int) -> Sequence[int]:
    """The prompt, cut to leave `positions` of the context window; raises `PromptTooLongError` where nothing is left."""
    if context <= positions:
        raise PromptTooLongError(
            f"passes over {positions} positions cannot be measured in a context of {context}; lower the draft length."
        )
    return prompt_ids[: context - positions]


def _prefill(target: LanguageModel, prompt_ids: Sequence[int]) -> tuple[int, list[int]]:
    """Run the prompt; its length, and its last token."""
    target.reset()
    target.extend(torch.tensor([list(prompt_ids)], device=target.device), last_only=True)
    return len(prompt_ids), list(prompt_ids[-1:])


def measure_costs(
    target: LanguageModel, nested: NestedDraft, prompt_ids: Sequence[int], widest: int, now: Now = perf_counter
) -> OnlineCosts:
    """Time target passes over 1 to `widest` positions and every draft stage after `prompt_ids`, in the order of a step.

    Target and draft alternate, so that the processor's cache is as it will be in the loop. Medians of `ROUNDS` rounds
    after a warm-up round; the prompt is cut where the context window has no room for them. Leaves both caches empty.
    """
    context, positions = min(target.context, nested.model.context), max(widest, 3 + _MORE)
    prompt_ids = _with_room(prompt_ids, context, positions)
    start, ids = _prefill(target, prompt_ids)
    nested.prefill(prompt_ids)
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
