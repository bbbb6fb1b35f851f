"""EAGLE's drafter: a head on the target's states drafts a chain, or a tree that grows by its confidence (EAGLE-2).

Sources: Li et al., arXiv 2401.15077 and 2503.01840 (EAGLE-1's and EAGLE-3's heads), 2406.16858 (the tree). Shapes: `T`
positions, `P` pairs that wait, `G` drafted tokens, `D` width, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from specbench_s2d.decoding.draft_vocabulary import (
    DraftVocabularySize,
    VocabularyFile,
    vocabulary_hashes,
    vocabulary_of,
)
from specbench_s2d.decoding.gamma import chain_passes
from specbench_s2d.decoding.growth import Candidates, add_children, expand, proposal_of
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import FINAL, LanguageModel, Likeliest, PassKind
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.heads.eagle import EagleHead
from specbench_s2d.models.heads.eagle3_shape import Eagle3Shape
from specbench_s2d.models.transfer import to_device


class EagleDrafter:
    """Drafts from the target's states of the verified positions, and on from the head's own.

    After every target pass the pairs of the positions that were kept wait, until `propose` runs them with the token
    that follows; what was drafted on the head's own states is then cut from its cache.
    """

    draft_kind: ClassVar[Literal["eagle"]] = "eagle"
    has_likelihoods: ClassVar[bool] = True

    class Options(BaseOptions):
        """`gamma`: tokens of a chain, in place of a tree. `depth`, `topk`, `tokens`: of the tree."""

        gamma: Annotated[int | None, Field(ge=1, description="Tokens of a chain; without it, a tree.")] = None
        depth: Annotated[int, Field(ge=1, description="Levels of the tree.")] = 6
        topk: Annotated[int, Field(ge=1, description="Nodes expanded per level, and children of each.")] = 10
        tokens: Annotated[int, Field(ge=1, description="Most tokens of one proposal, by cumulative probability.")] = 60
        draft_vocabulary: DraftVocabularySize = None
        vocabulary_from: VocabularyFile = None

    def __init__(self, draft: LanguageModel, options: EagleDrafter.Options) -> None:
        assert isinstance(draft, EagleHead), "check_kind refuses any other draft"
        self.check_draft(options, draft)
        self._head, self._options, self._vocabulary = draft, options, vocabulary_of(options, draft)
        if draft.own_ids is not None:
            self._vocabulary = DraftVocabulary.of(draft.own_ids, draft.vocabulary)

    data_hashes = staticmethod(vocabulary_hashes)

    @staticmethod
    def check_draft(options: EagleDrafter.Options, draft: Any) -> None:
        """Raise `UserError` for a small vocabulary asked of a head that has one of its own."""
        if options.draft_vocabulary is not None and isinstance(draft.head_shape, Eagle3Shape):
            raise UserError(
                f"draft_vocabulary={options.draft_vocabulary}: {draft.name} is an EAGLE-3 head with an LM head of its "
                f"own over {len(draft.head_shape.ids):,} ids; leave the option out."
            )

    @staticmethod
    def draft_passes(options: EagleDrafter.Options, draft: object) -> list[PassKind]:
        """None is prepared: the passes of one layer run eagerly."""
        return []

    @staticmethod
    def target_passes(options: EagleDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and the chain or the tree, whose final states are read."""
        o = options
        if o.gamma is not None:
            return [replace(kind, states=(FINAL,)) for kind in chain_passes(o.gamma)]
        rows = min(o.tokens, o.topk + (o.depth - 1) * o.topk**2) + 1
        return [PassKind(rows, seen=rows, least=rows, states=(FINAL,))]

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """The target whose embedding and LM head the head shares; the head may know padding ids that it leaves out."""
        self._target = target
        if self._vocabulary and self._vocabulary.full_size != target.vocabulary:
            there = (token for token in self._vocabulary.ids if token < target.vocabulary)
            self._vocabulary = DraftVocabulary.of(there, target.vocabulary)

    def facts(self) -> dict[str, object]:
        """Nothing is measured."""
        return {}

    def state_layers(self, target: LanguageModel) -> tuple[int, ...]:
        """The final states, or those of EAGLE-3's three layers."""
        return self._head.head_shape.state_layers(target.depth)

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._sampler, self._prompt_ids = sampler, prompt_ids
        self._head.reset()
        self._waiting_PD: Tensor | None = None

    def see(self, states: Sequence[Tensor]) -> None:
        """The target's states of its last pass; those of the prompt are run at once but for the last."""
        states_TD = self._head.fuse(states)
        if self._waiting_PD is not None:
            self._states_TD = states_TD
            return
        if len(states_TD) > 1:
            ids_T = to_device(list(self._prompt_ids[1:]), states_TD.device)
            self._head.advance(self._embed(ids_T), states_TD[:-1])
        self._waiting_PD = states_TD[-1:]

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        assert self._waiting_PD is not None, "the target's pass over the prompt comes first"
        ids_P = to_device(list(context[-len(self._waiting_PD) :]), self._waiting_PD.device)
        last_1D = self._head.advance(self._embed(ids_P), self._waiting_PD)[-1:]
        self._pairs = len(context) - 1
        chain = self._options.gamma is not None
        return self._chain(last_1D, room) if chain else self._tree(last_1D, room)

    def commit(self, committed: int, verdict: Verdict) -> None:
        self._head.rollback(self._pairs)
        rows = [0, *(row + 1 for row in verdict.accepted_path)]
        if rows[-1] == len(rows) - 1:  # a chain's, and those of a tree's first branch
            self._waiting_PD = self._states_TD[: len(rows)]
        else:
            self._waiting_PD = self._states_TD.index_select(0, to_device(rows, self._states_TD.device))

    def _embed(self, ids_T: Tensor) -> Tensor:
        return self._head.embed_for(self._target, ids_T)

    def _logits(self, states_TD: Tensor) -> Tensor:
        return self._head.logits(self._target, states_TD, self._vocabulary)

    def _chain(self, state_1D: Tensor, room: int) -> Proposal:
        """Token by token, each drawn from q, or its argmax."""
        ids, q, logits = list[Tensor](), list[Tensor](), list[Tensor]()
        wanted = min(self._options.gamma or 0, room)
        for place in range(wanted):
            logits.append(self._logits(state_1D))
            if self._sampler.greedy:
                id_1 = logits[-1].argmax(dim=-1)
            else:
                q.append(self._sampler.probs(logits[-1])[0])
                id_1 = self._sampler.draw(q[-1])
            ids.append(id_1)
            if place < wanted - 1:
                state_1D = self._head.advance(self._embed(id_1), state_1D)
        return Proposal(
            torch.cat(ids) if ids else torch.empty(0, dtype=torch.long, device=state_1D.device),
            q_GV=torch.stack(q) if q else None,
            draft_logits=logits,
            draft_layers=self._layers_run(),
        )

    def _tree(self, states_ND: Tensor, room: int) -> Proposal:
        """Level by level: the likeliest children of every node, of which the likeliest `topk` are expanded."""
        o, levels = self._options, min(self._options.depth, room)
        most = len(self._vocabulary) if self._vocabulary else o.topk
        topk = max(1, min(o.topk, most, room // max(levels, 1)))
        found, frontier = Candidates(), None
        for level in range(1, levels + 1):
            add_children(found, Likeliest.of(self._logits(states_ND), topk), frontier, topk)
            if level < levels:
                frontier = expand(found, frontier, topk)
                embedded_ND = self._embed(frontier.ids_N)
                first = frontier.parents_N is None  # all from the context
                above_ND = states_ND.expand(len(embedded_ND), -1) if first else states_ND[frontier.parents_N]
                states_ND = self._head.advance(embedded_ND, above_ND, frontier.mask_EE[-len(embedded_ND) :])
        if not levels:
            return Proposal(torch.empty(0, dtype=torch.long, device=states_ND.device), draft_layers=self._layers_run())
        return proposal_of(found, min(o.tokens, room), self._layers_run())

    def _layers_run(self) -> int:
        """Layers times positions since the last proposal."""
        ran = self._head.length - self._pairs + len(self._waiting_PD) if self._waiting_PD is not None else 0
        return ran * self._head.depth
