"""The sorted drafter of S2D (Kavehzadeh et al. 2024, arXiv 2407.01955, section 3): each token exits by confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from specbench_s2d.decoding.gamma import DraftLength, Gamma, chain_passes, draft_length
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import LanguageModel, Likeliest, PassKind
from specbench_s2d.models.exits import HasExits, resolve_exits
from specbench_s2d.models.nested import NestedDraft, stage_passes


def _split(value: object) -> object:
    return [part.strip() for part in value.split("+")] if isinstance(value, str) else value


Exits = Annotated[
    tuple[int, ...] | None, BeforeValidator(_split), Field(description="Depths to exit at; the draft's own by default.")
]
Thresholds = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...],
    BeforeValidator(_split),
    Field(description="Confidence above which a token leaves at each exit; the last exit always answers."),
]
SortedGamma = Annotated[Gamma, Field(description="Draft length: a number, or heuristic (Spec-Bench's schedule).")]


class SortedOptions(BaseOptions):
    """Options of every drafter with exits. `exits`: depths in layers."""

    exits: Exits = None


class ThresholdOptions(SortedOptions):
    """`thresholds`: one per exit, shallow to deep, each from 0 to 1."""

    thresholds: Thresholds = (0.5, 0.5, 0.0)


def check_exits_and_thresholds(options: ThresholdOptions, draft: HasExits) -> None:
    """Raise `UserError` for a draft without exits, exits it cannot have, or thresholds that do not fit them."""
    exits, given = resolve_exits(draft, options.exits), options.thresholds
    if len(given) != len(exits):
        raise UserError(
            f"thresholds={'+'.join(f'{t:g}' for t in given)}: {len(given)} thresholds for the {len(exits)} exits of "
            f"draft {draft.name} ({', '.join(map(str, exits))}); give one per exit."
        )


class ExitRule(Protocol):
    """At which exit a drafted token leaves."""

    def leaves(self, stage: int, logprob: float) -> bool:
        """Whether a token leaves at exit `stage` (from 0), where its log-probability is `logprob`.

        Called from the first exit on until it is true; not at the last exit, where every token leaves.
        """
        ...


class ConfidenceRule:
    """A token leaves at the first exit where its probability is above the threshold: max softmax > theta_i."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        self._thresholds = thresholds

    def leaves(self, stage: int, logprob: float) -> bool:
        return math.exp(logprob) > self._thresholds[stage]


class ExitDrafter:
    """Drafts gamma tokens greedily with a nested draft; a rule chooses the exit of each.

    `family`: shared by all such drafters, so that one can follow the recorded acceptances of another.
    """

    family: ClassVar[str] = "exits"
    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "nested"
    has_likelihoods: ClassVar[bool] = True

    def __init__(
        self, draft: LanguageModel, exits: Sequence[int] | None, gamma: int | Literal["heuristic"], rule: ExitRule
    ) -> None:
        self._nested, self._gamma, self._rule = NestedDraft(draft, exits), gamma, rule
        self._device = draft.device

    @staticmethod
    def check_draft(options: Any, draft: HasExits) -> None:
        """Raise `ModelError` for a draft without exits, or exits that it cannot have."""
        resolve_exits(draft, options.exits)

    @staticmethod
    def draft_passes(options: SortedOptions, draft: HasExits) -> list[PassKind]:
        """One or two new tokens a pass: two are new to the draft after a fully accepted proposal."""
        return stage_passes(resolve_exits(draft, options.exits), rows=2)

    @staticmethod
    def target_passes(options: Any) -> list[PassKind]:
        """One pass over the context's last token and the chain; `options` has a `gamma`."""
        return chain_passes(options.gamma)

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._length: DraftLength = draft_length(self._gamma)
        self._nested.prefill(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        """Tokens stay on the device; the host reads only the confidences."""
        nested = self._nested
        before = nested.layer_runs
        unseen: Sequence[int] | Tensor = context[nested.length :]
        tokens: list[Tensor] = []
        depths: list[int] = []
        for _ in range(min(self._length.next(), room)):
            likeliest, depth = self._next(unseen)
            tokens.append(likeliest.packed_2RK)
            depths.append(depth)
            unseen = likeliest.ids_RK
        self._drafted = len(tokens)
        logprobs_G, ids_G = torch.cat(tokens, dim=1)[..., 0] if tokens else torch.empty(2, 0, device=self._device)
        return Proposal(ids_G.long(), None, logprobs_G, depths, draft_layers=nested.layer_runs - before)

    def _next(self, unseen: Sequence[int] | Tensor) -> tuple[Likeliest, int]:
        """(the likeliest token, exit depth) after `unseen`, at the first exit that the rule chooses, else the last."""
        nested = self._nested
        *checked, last = range(len(nested.exits))
        for stage in checked:
            likeliest = nested.read(stage, unseen)
            if self._rule.leaves(stage, likeliest.logprobs_RK.item()):  # the host waits for the device here
                return likeliest, nested.exits[stage]
        return nested.read(last, unseen), nested.exits[last]

    def commit(self, committed: int, verdict: Verdict) -> None:
        self._nested.rollback(committed)
        self._length.learn(verdict.accepted, self._drafted)


class SortedDrafter(ExitDrafter):
    """Drafts gamma tokens greedily; each leaves at the first exit that is confident enough."""

    class Options(ThresholdOptions):
        """`gamma`: tokens per proposal, or `heuristic`."""

        gamma: SortedGamma = 5

    def __init__(self, draft: LanguageModel, options: SortedDrafter.Options) -> None:
        self.check_draft(options, draft)
        super().__init__(draft, options.exits, options.gamma, ConfidenceRule(options.thresholds))

    check_draft = staticmethod(check_exits_and_thresholds)
