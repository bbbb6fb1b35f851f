"""Medusa's drafter: the heads' likeliest tokens as a tree, or a chain (Cai et al. 2024, arXiv 2401.10774, section 3.1).

Shapes: `T` positions, `K` heads, `G` drafted tokens, `R` ranks, `D` width, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from specbench_s2d.decoding.draft_vocabulary import (
    DraftVocabularySize,
    VocabularyFile,
    vocabulary_hashes,
    vocabulary_of,
)
from specbench_s2d.decoding.gamma import OF_A_TREE, chain_passes
from specbench_s2d.decoding.growth import Candidates, add_children, expand, proposal_of
from specbench_s2d.decoding.medusa_layout import lay_out
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import FINAL, LanguageModel, Likeliest, PassKind
from specbench_s2d.models.heads.medusa import MedusaHead
from specbench_s2d.models.heads.medusa_trees import CONFIDENCE, MOST_NODES, check_tree, nodes_of, tree_hash

_CONFIDENT = 63


class MedusaDrafter:
    """Drafts all tokens at once from the target's final state of the last verified position.

    Head k proposes for the k-th place after the next token, which the target itself has chosen, and does not know what
    the heads before it proposed.
    """

    draft_kind: ClassVar[Literal["medusa"]] = "medusa"
    has_likelihoods: ClassVar[bool] = True

    class Options(BaseOptions):
        """`gamma`: tokens of a chain, in place of a tree. `tree`, `tokens`, `topk`: of the tree."""

        gamma: Annotated[int | None, Field(ge=1, description="Tokens of a chain; without it, a tree.")] = None
        tree: Annotated[
            str,
            AfterValidator(check_tree),
            OF_A_TREE,
            Field(
                description="A published tree by name, a JSON file, or confidence: the likeliest nodes of each step."
            ),
        ] = "mc_sim_7b_63"
        tokens: Annotated[
            Annotated[int, Field(ge=1, le=MOST_NODES)] | None,
            OF_A_TREE,
            Field(
                description="Most tokens of the tree, its first or likeliest; by default all of it, 63 of confidence."
            ),
        ] = None
        topk: Annotated[
            int, OF_A_TREE, Field(ge=1, le=64, description="Of tree=confidence: children of each node.")
        ] = 10
        draft_vocabulary: DraftVocabularySize = None
        vocabulary_from: VocabularyFile = None

    def __init__(self, draft: LanguageModel, options: MedusaDrafter.Options) -> None:
        assert isinstance(draft, MedusaHead), "check_kind refuses any other draft"
        self.check_draft(options, draft)
        self._head, self._options, self._vocabulary = draft, options, vocabulary_of(options, draft)

    @staticmethod
    def check_draft(options: MedusaDrafter.Options, draft: Any) -> None:
        """Raise `UserError` for a chain that is longer than there are heads."""
        heads = draft.head_shape.heads
        if options.gamma is not None and options.gamma > heads:
            raise UserError(
                f"medusa:gamma={options.gamma}: {draft.name} has {heads} heads, and each drafts one token; give at "
                "most that."
            )

    @staticmethod
    def data_hashes(options: MedusaDrafter.Options, draft: Any) -> dict[str, str]:
        """Of a tree from a file, and of a small vocabulary."""
        return tree_hash(options.tree) | vocabulary_hashes(options, draft)

    @staticmethod
    def draft_passes(options: MedusaDrafter.Options, draft: object) -> list[PassKind]:
        """None is prepared: the heads run eagerly."""
        return []

    @staticmethod
    def target_passes(options: MedusaDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and the chain or the tree, whose final states are read.

        How many nodes of a tree there are depends on the number of heads; one level is the least.
        """
        o = options
        if o.gamma is not None:
            return [replace(kind, states=(FINAL,)) for kind in chain_passes(o.gamma)]
        most, first = o.tokens or _CONFIDENT, o.topk
        if o.tree != CONFIDENCE:
            nodes = nodes_of(o.tree)[: o.tokens]
            most, first = len(nodes), sum(len(node) == 1 for node in nodes)
        rows, least = most + 1, min(most, first, o.draft_vocabulary or first) + 1
        return [PassKind(rows, seen=rows, least=least, states=(FINAL,))]

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """The target, whose LM head the heads may share; heads may know padding ids that it leaves out."""
        self._target = target
        if self._vocabulary:
            self._vocabulary = self._vocabulary.below(target.vocabulary)

    def facts(self) -> dict[str, object]:
        """Nothing is measured."""
        return {}

    def state_layers(self, target: LanguageModel) -> tuple[int, ...]:
        """The final states."""
        return (target.depth,)

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._sampler = sampler

    def see(self, states: Sequence[Tensor]) -> None:
        """The target's final states of its last pass; after the prompt's, its last position is the last verified."""
        (self._states_TD,) = states
        self._state_1D = self._states_TD[-1:]

    def commit(self, committed: int, verdict: Verdict) -> None:
        row = verdict.accepted_path[-1] + 1 if verdict.accepted else 0
        self._state_1D = self._states_TD[row : row + 1]

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        wanted = min(self._head.heads, self._options.gamma or room, room)
        if not wanted:
            return Proposal(torch.empty(0, dtype=torch.long, device=self._state_1D.device))
        logits_KV = self._head.logits(self._state_1D, wanted, self._target, self._vocabulary)
        if self._options.gamma is not None:
            return self._chain(logits_KV)
        if self._options.tree == CONFIDENCE:
            return self._confident_tree(logits_KV, room)
        return self._fixed_tree(logits_KV, room)

    def _chain(self, logits_GV: Tensor) -> Proposal:
        """Of each head the argmax, or a draw from its q."""
        if self._sampler.greedy:
            return Proposal(logits_GV.argmax(-1), draft_logits=[logits_GV], draft_layers=self._head.depth)
        q_GV = self._sampler.probs(logits_GV)
        ids_G = torch.cat([self._sampler.draw(q_V) for q_V in q_GV])
        return Proposal(ids_G, q_GV=q_GV, draft_logits=[logits_GV], draft_layers=self._head.depth)

    def _fixed_tree(self, logits_KV: Tensor, room: int) -> Proposal:
        o, ids = self._options, len(self._vocabulary or range(logits_KV.shape[1]))
        tokens = min(o.tokens or room, room)
        laid = lay_out(nodes_of(o.tree), min(tokens, MOST_NODES), len(logits_KV), ids, logits_KV.device)
        if laid is None:
            return Proposal(torch.empty(0, dtype=torch.long, device=logits_KV.device))
        likeliest_2KR = Likeliest.of(logits_KV[: laid.levels], laid.ranks).packed_2RK
        logprobs_G, ids_G = likeliest_2KR.flatten(1).index_select(1, laid.places_G)
        return Proposal(ids_G.long(), logprobs_G=logprobs_G, tree=laid.tree, draft_layers=self._head.depth)

    def _confident_tree(self, logits_KV: Tensor, room: int) -> Proposal:
        """The paths with the highest products of the heads' probabilities."""
        o, found, frontier = self._options, Candidates(), None
        topk = min(o.topk, len(self._vocabulary) if self._vocabulary else o.topk)
        tokens, likeliest_2KR = min(o.tokens or _CONFIDENT, room), Likeliest.of(logits_KV, topk).packed_2RK
        for level in range(len(logits_KV)):
            if level:
                frontier = expand(found, frontier, tokens)
            nodes = 1 if frontier is None else len(frontier.ids_N)
            one_level = Likeliest(likeliest_2KR[:, level : level + 1].expand(-1, nodes, -1))
            add_children(found, one_level, frontier, topk)
        return proposal_of(found, tokens, self._head.depth)
