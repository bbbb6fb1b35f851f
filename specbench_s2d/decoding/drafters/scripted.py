"""The sorted drafter with scripted exits: for drafts whose weights are random, and so never confident. A projection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace, ScriptOptions, endless
from specbench_s2d.decoding.drafters.sorted import ExitDrafter, SortedGamma, SortedOptions
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.exits import HasExits, resolve_exits


class ScriptedRule:
    """A token leaves at the exit that the script names; its confidence is read all the same, for that costs a wait."""

    def __init__(self) -> None:
        self._stages: Iterator[int] = iter(())
        self._wanted = 0

    def follow(self, script: AcceptanceTrace) -> None:
        self._stages = endless(script.stages, "exits")

    def leaves(self, stage: int, logprob: float) -> bool:
        if stage == 0:
            self._wanted = next(self._stages)
        return stage == self._wanted


class ScriptedSortedDrafter(ExitDrafter):
    """The sorted drafter's stages and exit checks, but every token leaves where a script says: a projection."""

    projected: ClassVar[str] = "scripted exits"

    class Options(ScriptOptions, SortedOptions):
        """`gamma`: tokens per proposal, or `heuristic`."""

        gamma: SortedGamma = 5

    def __init__(self, draft: LanguageModel, options: ScriptedSortedDrafter.Options) -> None:
        self._own_rule = ScriptedRule()
        super().__init__(draft, options.exits, options.gamma, self._own_rule)

    @property
    def exits(self) -> tuple[int, ...]:
        """The depths that a script's stages stand for."""
        return tuple(self._nested.exits)

    @staticmethod
    def check_draft(options: SortedOptions, draft: HasExits) -> None:
        """Raise `UserError` for a draft without exits, or exits that it cannot have."""
        resolve_exits(draft, options.exits)

    def follow(self, script: AcceptanceTrace) -> None:
        """Raises `UserError` for a stage that the draft does not have."""
        if max(script.stages, default=0) >= len(self.exits):
            raise UserError(
                f"the script leaves at exit number {max(script.stages) + 1}; the draft has {len(self.exits)} exits "
                f"({', '.join(map(str, self.exits))})."
            )
        self._own_rule.follow(script)
