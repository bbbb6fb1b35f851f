"""Token recycling (Luo et al. 2024, arXiv 2408.08696): a tree out of the likeliest next tokens that the target gave."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from specbench_s2d.decoding.adaptive_length import AdaptiveTree, FoundTree, most_tokens
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict, chain_of
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.transfer import to_device

SUCCESSORS = 8
"""Next tokens kept of each token."""
TEMPLATE = (
    (8,),
    (8, 4, 3, 2, 1, 1, 1, 1),
    (8, 3, 2, 1, 1, 1, 1, 1, 2, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0),
    (5, 2, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0),
    (3, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0),
    (2, 0, 0, 1, 0, 0, 0, 0),
)
"""The paper's static tree of 80 nodes: level by level, the children of each node, from the likeliest on.

Source: the tree of Token Recycling in Spec-Bench (github.com/hemingkx/Spec-Bench, model/recycling, version 2.2.2)."""
NODES = sum(map(sum, TEMPLATE))
_ABSENT = -2


def _places() -> list[tuple[int, int]]:
    """Of each node of the template, in order, the place above it (0: the context; node i is place i + 1) and its rank
    among that one's children."""
    counts = [count for level in TEMPLATE for count in level]
    return [(above, rank) for above, count in enumerate(counts) for rank in range(count)]


PLACES = _places()
PRIORS = [0.5 / (rank + 1) ** 1.5 for _, rank in PLACES]
"""Assumed probability that a node is accepted after its parent, before any was judged."""


class RecyclingDrafter:
    """Proposes a tree: below each token, the likeliest next tokens where the target last read that token.

    A matrix has a row of 8 next tokens for every token of the vocabulary. After every target pass, the row of each
    token that was read, drafted ones included, becomes the 8 likeliest next tokens there; of a token read twice, the
    later place counts. A token without a row has no children.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "none"
    has_likelihoods: ClassVar[bool] = False

    class Options(BaseOptions):
        """`scope`: what the matrix is kept for. `tokens`: most nodes of the tree."""

        scope: Annotated[
            Literal["question", "run"],
            Field(description="Keep the matrix within one generation, or over the run, as Spec-Bench's own code does."),
        ] = "question"
        tokens: Annotated[
            Annotated[int, Field(ge=1, le=NODES)] | Literal["auto"],
            Field(description="Most tokens of the tree; auto: those of its nodes that pay by measured costs."),
        ] = NODES

    def __init__(self, draft: None, options: RecyclingDrafter.Options) -> None:
        del draft
        self._options = options
        self._rows: dict[int, list[int]] = {}
        self._most, self._size = most_tokens(options.tokens, NODES), AdaptiveTree.of(options.tokens, PRIORS)

    @staticmethod
    def learns_over_run(options: RecyclingDrafter.Options) -> bool:
        """With scope=run the matrix of one question serves the next."""
        return options.scope == "run"

    @staticmethod
    def target_passes(options: RecyclingDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and the tree, or over that token alone."""
        rows = most_tokens(options.tokens, NODES) + 1
        return [PassKind(1), PassKind(rows, seen=rows, least=2)]

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """With `tokens=auto`, measure target passes by width."""
        self._size.prepare(target, prompt_ids)

    def facts(self) -> dict[str, Any]:
        """With `tokens=auto`, pass costs and acceptances, for the manifest."""
        return self._size.facts()

    def forget(self) -> None:
        """Empty the matrix."""
        self._rows.clear()

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._device = sampler.device
        self._size.start()
        if self._options.scope == "question":
            self.forget()

    def observe(self, ids_T: Tensor, logits_TV: Tensor) -> Tensor:
        """The T tokens read, each with its 8 likeliest next tokens: (T * 9,)."""
        self._kept = min(SUCCESSORS, logits_TV.shape[-1])
        next_TK = logits_TV.topk(self._kept, dim=-1).indices
        return torch.cat((ids_T[:, None], next_TK), dim=1).flatten().to(torch.float32)

    def learn(self, observed: Sequence[float]) -> None:
        """Take the rows of `observe` into the matrix."""
        values, width = list(map(int, observed)), self._kept + 1
        for at in range(0, len(values), width):
            self._rows[values[at]] = values[at + 1 : at + width]

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        tree = self._size.cut(self._grow(context[-1], min(self._most, room)))
        if not tree.ids:
            return chain_of([], self._device)
        shape = _tree(tuple(tree.parents), self._device)
        return Proposal(to_device(tree.ids, self._device), tree=shape, host_ids=tree.ids)

    def _grow(self, last: int, most: int) -> FoundTree:
        """The template less the children that no row gives, level by level."""
        found, tokens, nodes = FoundTree([], [], []), [last], [-1]  # by place in the template, the context first
        for place, (above, rank) in enumerate(PLACES):
            row = self._rows.get(tokens[above], ()) if nodes[above] >= -1 else ()
            if rank < len(row) and len(found.ids) < most:
                nodes.append(len(found.ids))
                tokens.append(row[rank])
                found.ids.append(row[rank])
                found.parents.append(nodes[above])
                found.places.append(place)
            else:
                nodes.append(_ABSENT)
                tokens.append(last)
        return found

    def commit(self, committed: int, verdict: Verdict) -> None:
        self._size.learn(verdict)


@lru_cache(maxsize=128)
def _tree(parents: tuple[int, ...], device: torch.device) -> Tree:
    """The tree of these parents; few shapes occur."""
    return Tree.of(parents, device)
