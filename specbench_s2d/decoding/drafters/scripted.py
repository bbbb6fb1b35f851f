"""The sorted drafter with exits from an acceptance trace, for drafts with random weights: a projection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace, TraceOptions, repeat_forever
from specbench_s2d.decoding.drafters.sorted import ExitDrafter, SortedGamma, SortedOptions
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import LanguageModel


class TraceRule:
    """A token leaves at the exit that the trace gives; its confidence is still read, as that wait is part of the
    cost."""

    def __init__(self) -> None:
        self._stages: Iterator[int] = iter(())
        self._wanted = 0

    def follow(self, trace: AcceptanceTrace) -> None:
        self._stages = repeat_forever(trace.stages, "exits")

    def leaves(self, stage: int, logprob: float) -> bool:
        if stage == 0:
            self._wanted = next(self._stages)
        return stage == self._wanted


class ScriptedSortedDrafter(ExitDrafter):
    """The sorted drafter's stages and exit checks, with each token's exit taken from a trace: a projection."""

    projected: ClassVar[str] = "scripted exits"

    class Options(TraceOptions, SortedOptions):
        """`gamma`: tokens per proposal, or `heuristic`."""

        gamma: SortedGamma = 5

    def __init__(self, draft: LanguageModel, options: ScriptedSortedDrafter.Options) -> None:
        self._trace_rule = TraceRule()
        super().__init__(draft, options, options.gamma, self._trace_rule)

    @property
    def exits(self) -> tuple[int, ...]:
        """The depth of each stage of a trace."""
        return tuple(self._nested.exits)

    def follow(self, trace: AcceptanceTrace) -> None:
        """Raises `UserError` for a stage that the draft does not have."""
        if max(trace.stages, default=0) >= len(self.exits):
            raise UserError(
                f"the acceptance trace leaves at exit number {max(trace.stages) + 1}; the draft has "
                f"{len(self.exits)} exits ({', '.join(map(str, self.exits))})."
            )
        self._trace_rule.follow(trace)
