"""The empty drafter: it proposes nothing, which makes the loop plain autoregressive decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict, chain_of
from specbench_s2d.models.base import PassKind


class NoDrafter:
    """Proposes no tokens; every step is one target pass and one token."""

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "none"
    has_likelihoods: ClassVar[bool] = True

    class Options(BaseOptions):
        """No options."""

    def __init__(self, draft: None, options: NoDrafter.Options) -> None:
        del draft, options

    @staticmethod
    def target_passes(options: NoDrafter.Options) -> list[PassKind]:
        """One token a pass."""
        return [PassKind(1)]

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._nothing = chain_of([], sampler.device)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        return self._nothing

    def commit(self, committed: int, verdict: Verdict) -> None:
        """There is no draft cache to cut."""
