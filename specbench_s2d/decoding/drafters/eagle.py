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
from specbench_s2d.decoding.gamma import OF_A_TREE, chain_passes
from specbench_s2d.decoding.growth import Candidates, add_children, expand, proposal_of, tree_rows
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import FINAL, LanguageModel, PassKind
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.heads.eagle import EagleHead
from specbench_s2d.models.heads.eagle3_shape import Eagle3Shape
from specbench_s2d.models.transfer import to_device


class EagleDrafter:
    """Drafts from the target's states of the verified positions, and on from the head's own.

    After every target pass, whoever drafted, the pairs of the positions that were kept wait, until `propose` runs them
    with the token that follows; what was drafted on the head's own states is then cut from its cache.
    """

    draft_kind: ClassVar[Literal["eagle"]] = "eagle"
    has_likelihoods: ClassVar[bool] = True

    class Options(BaseOptions):
        """`gamma`: tokens of a chain, in place of a tree. `depth`, `topk`, `tokens`: of the tree."""

        gamma: Annotated[int | None, Field(ge=1, le=63, description="Tokens of a chain; without it, a tree.")] = None
        depth: Annotated[int, OF_A_TREE, Field(ge=1, le=32, description="Levels of the tree.")] = 6
        topk: Annotated[
            int, OF_A_TREE, Field(ge=1, le=64, description="Nodes expanded per level, and children of each.")
        ] = 10
        tokens: Annotated[
            int,
            OF_A_TREE,
            Field(ge=1, le=512, description="Most tokens of one proposal, by cumulative probability."),
        ] = 60
        draft_vocabulary: DraftVocabularySize = None
        vocabulary_from: VocabularyFile = None

    def __init__(self, draft: LanguageModel, options: EagleDrafter.Options) -> None:
        assert isinstance(draft, EagleHead), "check_kind refuses any other draft"
        self.check_draft(options, draft)
        self._head, self._options, self._vocabulary = draft, options, _proposed(options, draft)

    data_hashes = staticmethod(vocabulary_hashes)

    @staticmethod
    def check_draft(options: EagleDrafter.Options, draft: Any) -> None:
        """Raise `UserError` for a small vocabulary asked of a head that has one of its own."""
        if options.draft_vocabulary is not None and _has_own(draft):
            raise UserError(
                f"draft_vocabulary={options.draft_vocabulary}: {draft.name} is an EAGLE-3 head with an LM head of its "
                f"own over {len(draft.head_shape.ids):,} ids; leave the option out."
            )

    @staticmethod
    def draft_passes(options: EagleDrafter.Options, draft: HasExits) -> list[PassKind]:
        """The pairs that were kept, then token by token, or level by level under a mask."""
        o, vocabulary = options, _proposed(options, draft)
        if o.gamma is not None:
            likeliest = PassKind(o.gamma + 1, 0, draft.depth, best=1, vocabulary=vocabulary)
            drawn = [replace(likeliest, best=0, vocabulary=None)]
            if _has_own(draft):  # its final norm and LM head; a target's run eagerly
                drawn.append(PassKind(1, draft.depth, vocabulary=vocabulary))
            return [likeliest, *drawn]
        best = min(o.topk, len(vocabulary)) if vocabulary else o.topk
        kept = PassKind(o.depth + 1, 0, draft.depth, best=best, vocabulary=vocabulary)
        return [kept, replace(kept, rows=o.topk, least=o.topk, seen=o.topk * (o.depth - 1))]

    @staticmethod
    def target_passes(options: EagleDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and the chain or the tree, whose final states are read."""
        o = options
        if o.gamma is not None:
            return [replace(kind, states=(FINAL,)) for kind in chain_passes(o.gamma)]
        rows = tree_rows(o.depth, o.topk, o.tokens)
        return [PassKind(rows, seen=rows, least=rows, states=(FINAL,))]

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """The head may know padding ids that the target leaves out."""
        if self._vocabulary:
            self._vocabulary = self._vocabulary.below(target.vocabulary)

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
        self._pairs = len(prompt_ids) - 1

    def see(self, states: Sequence[Tensor]) -> None:
        """The target's states of its last pass; those of the prompt are run at once but for the last."""
        states_TD = self._head.fuse(states)
        if self._waiting_PD is not None:
            self._states_TD = states_TD
            return
        if len(states_TD) > 1:
            ids_T = to_device(list(self._prompt_ids[1:]), states_TD.device)
            self._head.advance(ids_T, states_TD[:-1])
        self._waiting_PD = states_TD[-1:]

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        assert self._waiting_PD is not None, "the target's pass over the prompt comes first"
        if not room:
            return Proposal(torch.empty(0, dtype=torch.long, device=self._head.device))
        states_PD, self._waiting_PD = self._waiting_PD, self._waiting_PD[:0]
        ids_P = to_device(list(context[-len(states_PD) :]), states_PD.device)
        self._pairs, self._before = len(context) - 1, self._head.length
        if self._options.gamma is None:
            return self._tree(ids_P, states_PD, room)
        return (self._likeliest_chain if self._sampler.greedy else self._drawn_chain)(ids_P, states_PD, room)

    def commit(self, committed: int, verdict: Verdict) -> None:
        self._head.rollback(self._pairs)
        rows = [0, *(row + 1 for row in verdict.accepted_path)]
        if rows[-1] == len(rows) - 1:  # a chain's, and those of a tree's first branch
            kept_PD = self._states_TD[: len(rows)]
        else:
            kept_PD = self._states_TD.index_select(0, to_device(rows, self._states_TD.device))
        assert self._waiting_PD is not None
        self._waiting_PD = torch.cat((self._waiting_PD, kept_PD)) if len(self._waiting_PD) else kept_PD

    def _likeliest_chain(self, ids_P: Tensor, states_PD: Tensor, room: int) -> Proposal:
        """Token by token, each the argmax of q."""
        packed_2G = self._head.chain(ids_P, states_PD, min(self._options.gamma or 0, room), self._vocabulary)
        return Proposal(packed_2G[1].long(), logprobs_G=packed_2G[0], draft_layers=self._layers_run())

    def _drawn_chain(self, ids_P: Tensor, states_PD: Tensor, room: int) -> Proposal:
        """Token by token, each drawn from q."""
        ids, q, logits = list[Tensor](), list[Tensor](), list[Tensor]()
        for _ in range(min(self._options.gamma or 0, room)):
            states_PD = self._head.advance(ids_P, states_PD)[-1:]
            logits.append(self._head.logits(states_PD, self._vocabulary))
            q.append(self._sampler.probs(logits[-1])[0])
            ids_P = self._sampler.draw(q[-1])
            ids.append(ids_P)
        return Proposal(torch.cat(ids), q_GV=torch.stack(q), draft_logits=logits, draft_layers=self._layers_run())

    def _tree(self, ids_N: Tensor, states_ND: Tensor, room: int) -> Proposal:
        """Level by level: the likeliest children of every node, of which the likeliest `topk` are expanded."""
        o, levels = self._options, min(self._options.depth, room)
        best = min(o.topk, len(self._vocabulary)) if self._vocabulary else o.topk
        topk = max(1, min(best, room // levels))
        found, frontier, mask, rows = Candidates(), None, None, 1
        for level in range(1, levels + 1):
            predicted_ND, likeliest = self._head.predict(ids_N, states_ND, mask, rows, best, self._vocabulary)
            add_children(found, likeliest, frontier, topk)
            if level < levels:
                above_ND, first = predicted_ND[-rows:], frontier is None
                frontier = expand(found, frontier, topk)
                ids_N, rows = frontier.ids_N, len(frontier.ids_N)
                states_ND = above_ND.expand(rows, -1) if first else above_ND[frontier.parents_N]
                mask = frontier.mask_EE[-rows:]
        return proposal_of(found, min(o.tokens, room), self._layers_run())

    def _layers_run(self) -> int:
        """Layers times positions since the last proposal."""
        return (self._head.length - self._before) * self._head.depth


def _has_own(draft: Any) -> bool:
    """Whether a head has an LM head over ids of its own."""
    return isinstance(draft.head_shape, Eagle3Shape)


def _proposed(options: EagleDrafter.Options, draft: Any) -> DraftVocabulary | None:
    """The ids that a draft proposes: its own, or those of the options; None for all. Of a head that is attached to a
    target, those that the target has."""
    if not _has_own(draft):
        chosen, shared = vocabulary_of(options, draft), getattr(draft, "target_vocabulary", None)
        return chosen.below(shared) if chosen and shared else chosen
    own: DraftVocabulary | None = getattr(draft, "own_ids", None)  # of a loaded head
    return own or DraftVocabulary.of(draft.head_shape.ids, draft.vocabulary)
