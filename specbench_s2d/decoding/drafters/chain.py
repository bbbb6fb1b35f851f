"""The chain drafter: a draft model, token by token. Shapes: `G` drafted tokens, `V` vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from specbench_s2d.decoding.gamma import DraftLength, Gamma, draft_length
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.exits import Layered, check_exits, check_layer_ranges


class ChainDrafter:
    """Drafts gamma tokens, each from the draft's next-token distribution (or its argmax)."""

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "plain"

    class Options(BaseOptions):
        """`gamma`: tokens per proposal, or `heuristic`. `sampling`: `run` draws as the run does, `greedy`: argmax.
        `exit`: the depth that the draft is read at."""

        gamma: Annotated[Gamma, Field(description="Draft length: a number, or heuristic (Spec-Bench's schedule).")] = 5
        sampling: Annotated[
            Literal["run", "greedy"], Field(description="How the draft picks: as the run, or argmax.")
        ] = "run"
        exit: Annotated[
            int | None, Field(ge=1, description="Depth to read the draft at, in layers; its last by default.")
        ] = None

    def __init__(self, draft: LanguageModel, options: ChainDrafter.Options) -> None:
        self.check_draft(options, draft)
        self._draft, self._options = draft, options
        # The prompt's logits are of no use: a draft that can stop below its head does so.
        self._prefill_to = options.exit or (draft.depth if draft.has_layer_ranges else None)
        self._layers = options.exit or draft.depth

    @staticmethod
    def check_draft(options: ChainDrafter.Options, draft: Layered) -> None:
        """Raise `ModelError` for an exit that the draft cannot have."""
        if options.exit is not None:
            check_exits([options.exit], draft.depth, f"draft {draft.name}")
            check_layer_ranges(draft)

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._length: DraftLength = draft_length(self._options.gamma)
        self._sampler = sampler
        self._greedy = sampler.greedy or self._options.sampling == "greedy"
        self._draft.reset()
        self._draft.extend(torch.tensor([list(prompt_ids)], device=self._draft.device), to_layer=self._prefill_to)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        seen = self._draft.layer_length(0)
        ids_BT = torch.tensor([context[seen:]], device=self._draft.device)
        ids: list[Tensor] = []
        q: list[Tensor] = []
        for _ in range(min(self._length.next(), room)):
            logits_V = self._logits(ids_BT)
            if self._greedy:
                id_1 = logits_V.argmax(dim=-1, keepdim=True)
            else:
                q.append(self._sampler.probs(logits_V[None])[0])
                id_1 = self._sampler.draw(q[-1])
            ids.append(id_1)
            ids_BT = id_1[None]
        ids_G = torch.cat(ids) if ids else torch.empty(0, dtype=torch.long, device=self._draft.device)
        self._drafted = len(ids)
        exits = [self._options.exit] * len(ids) if self._options.exit else []
        layers = self._layers * (self._draft.layer_length(0) - seen)
        return Proposal(ids_G, q_GV=torch.stack(q) if q else None, exit_depths=exits, draft_layers=layers)

    def _logits(self, ids_BT: Tensor) -> Tensor:
        """Next-token logits (V,) after new ids, read at the exit."""
        if self._options.exit is None:
            return self._draft.extend(ids_BT, last_only=True)[0, -1]
        return self._draft.head(self._draft.extend(ids_BT, to_layer=self._options.exit, last_only=True))[0, -1]

    def settle(self, committed: int, verdict: Verdict) -> None:
        self._draft.rollback(committed)
        self._length.learn(verdict.accepted, self._drafted)
