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
from specbench_s2d.decoding.types import Proposal
from specbench_s2d.models.base import LanguageModel


class ChainDrafter:
    """Drafts gamma tokens, each from the draft's next-token distribution (or its argmax)."""

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "plain"

    class Options(BaseOptions):
        """`gamma`: tokens per proposal, or `heuristic`. `sampling`: `run` draws as the run does, `greedy`: argmax."""

        gamma: Annotated[Gamma, Field(description="Draft length: a number, or heuristic (Spec-Bench's schedule).")] = 5
        sampling: Annotated[
            Literal["run", "greedy"], Field(description="How the draft picks: as the run, or argmax.")
        ] = "run"

    def __init__(self, draft: LanguageModel, options: ChainDrafter.Options) -> None:
        self._draft, self._options = draft, options
        self._length: DraftLength = draft_length(options.gamma)

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._length = draft_length(self._options.gamma)
        self._sampler = sampler
        self._greedy = sampler.greedy or self._options.sampling == "greedy"
        self._draft.reset()
        self._draft.extend(torch.tensor([list(prompt_ids)], device=self._draft.device), to_layer=self._draft_layers)

    @property
    def _draft_layers(self) -> int | None:
        """The prompt's logits are of no use: a draft that can stop below its head does so."""
        return self._draft.depth if self._draft.has_layer_ranges else None

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        unseen = list(context[self._draft.length :])
        ids_BT = torch.tensor([unseen], device=self._draft.device)
        ids: list[Tensor] = []
        q: list[Tensor] = []
        for _ in range(min(self._length.next(), room)):
            logits_V = self._draft.extend(ids_BT, last_only=True)[0, -1]
            if self._greedy:
                id_1 = logits_V.argmax(dim=-1, keepdim=True)
            else:
                q.append(self._sampler.probs(logits_V[None])[0])
                id_1 = self._sampler.draw(q[-1])
            ids.append(id_1)
            ids_BT = id_1[None]
        ids_G = torch.cat(ids) if ids else torch.empty(0, dtype=torch.long, device=self._draft.device)
        return Proposal(ids_G, q_GV=torch.stack(q) if q else None)

    def settle(self, committed: int, accepted: int, drafted: int) -> None:
        self._draft.rollback(committed)
        self._length.learn(accepted, drafted)
