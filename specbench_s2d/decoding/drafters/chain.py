"""The chain drafter: a draft model, token by token. Shapes: `G` drafted tokens, `V` vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from specbench_s2d.decoding.gamma import DraftLength, Gamma, chain_passes, draft_length
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.exit_view import ExitView, check_exit, reader_passes
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.transfer import to_device

Exit = Annotated[int | None, Field(ge=1, description="Depth to read the draft at, in layers; its last by default.")]


class ChainDrafter:
    """Drafts gamma tokens one by one, each drawn from the draft's next-token distribution (or its argmax)."""

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "plain"
    has_likelihoods: ClassVar[bool] = True

    class Options(BaseOptions):
        """`gamma`: tokens per proposal, or `heuristic`. `sampling`: `run` draws at the run's temperature, `greedy`
        takes the argmax. `exit`: the depth that the draft is read at."""

        gamma: Annotated[Gamma, Field(description="Draft length: a number, or heuristic (Spec-Bench's schedule).")] = 5
        sampling: Annotated[
            Literal["run", "greedy"], Field(description="How the draft picks: as the run, or argmax.")
        ] = "run"
        exit: Exit = None

    def __init__(self, draft: LanguageModel, options: ChainDrafter.Options) -> None:
        self._view, self._options = ExitView(draft, options.exit), options

    @staticmethod
    def check_draft(options: Any, draft: HasExits) -> None:
        """Raise `ModelError` for an exit that the draft does not have."""
        check_exit(draft, options.exit)

    @staticmethod
    def draft_passes(options: ChainDrafter.Options, draft: HasExits) -> list[PassKind]:
        """One or two new tokens a pass: two are new to the draft after a fully accepted proposal."""
        return reader_passes(options.exit, draft.depth, rows=2)

    @staticmethod
    def target_passes(options: ChainDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and the chain."""
        return chain_passes(options.gamma)

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._length: DraftLength = draft_length(self._options.gamma)
        self._sampler = sampler
        self._greedy = sampler.greedy or self._options.sampling == "greedy"
        self._view.prefill(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        view = self._view
        seen, device = view.length, view.model.device
        ids_BT = to_device([context[seen:]], device)
        ids: list[Tensor] = []
        q: list[Tensor] = []
        logits: list[Tensor] = []
        for _ in range(min(self._length.next(), room)):
            logits.append(view.next_logits(ids_BT))
            if self._greedy:
                id_1 = logits[-1].argmax(dim=-1)
            else:
                q.append(self._sampler.probs(logits[-1])[0])
                id_1 = self._sampler.draw(q[-1])
            ids.append(id_1)
            ids_BT = id_1[None]
        self._drafted = len(ids)
        return Proposal(
            torch.cat(ids) if ids else torch.empty(0, dtype=torch.long, device=device),
            q_GV=torch.stack(q) if q else None,
            draft_logits=logits,
            exit_depths=[self._options.exit] * len(ids) if self._options.exit else [],
            draft_layers=view.layers * (view.length - seen),
        )

    def commit(self, committed: int, verdict: Verdict) -> None:
        self._view.model.rollback(committed)
        self._length.learn(verdict.accepted, self._drafted)
