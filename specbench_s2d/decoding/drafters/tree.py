"""The adaptive tree of S2D's follow-up (SD2): the sorted draft grows a tree by cumulative probability.

Shapes: `N` nodes of one level, `K` children of each, `V` vocabulary, `W` states that wait below a stage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from specbench_s2d.decoding.drafters.sorted import SortedDrafter, ThresholdOptions
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import tree_mask
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.exits import Layered
from specbench_s2d.models.nested import NestedDraft
from specbench_s2d.models.sending import send


@dataclass(frozen=True)
class _Node:
    """A candidate: its token, its parent among the candidates (-1: the context), and what the draft thinks of it."""

    token: int
    parent: int
    level: int
    logprob: float
    path_logprob: float
    exit_depth: int


class TreeDrafter:
    """Grows a tree level by level from the draft's likeliest nodes, and proposes the likeliest of all it saw.

    A level leaves at the first exit where its nodes' confidences, weighted by the nodes' probabilities, are above the
    threshold; for the first level, a single node, that is S2D's own rule. Near the context's end the tree is narrower.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "nested"

    class Options(ThresholdOptions):
        """`depth`: levels. `topk`: nodes expanded per level and children of each. `tokens`: most nodes proposed."""

        depth: Annotated[int, Field(ge=1, description="Levels of the tree.")] = 4
        topk: Annotated[int, Field(ge=1, description="Nodes expanded per level, and children of each.")] = 10
        tokens: Annotated[int, Field(ge=1, description="Most tokens of one proposal, by cumulative probability.")] = 60

    def __init__(self, draft: LanguageModel, options: TreeDrafter.Options) -> None:
        self.check_draft(options, draft)
        self._nested, self._options = NestedDraft(draft, options.exits), options
        self._device = draft.device

    @staticmethod
    def check_draft(options: ThresholdOptions, draft: Layered) -> None:
        """Raise `UserError` for a draft without exits, exits it cannot have, or thresholds that do not fit them."""
        SortedDrafter.check_draft(options, draft)

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._nested.prefill(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        before, levels = self._nested.layer_runs, min(self._options.depth, room)
        self._topk = max(1, min(self._options.topk, room // max(levels, 1)))
        self._context = len(context)
        self._nodes: list[_Node] = []
        self._expanded: list[int] = []  # indices of the nodes that the draft has run, in that order
        frontier, ids, weights = [-1], list(context[self._nested.length :]), [1.0]
        for level in range(1, levels + 1):
            first = len(self._nodes)
            logprobs_NV, exit_depth = self._read(ids, weights)
            self._add_children(logprobs_NV, frontier, level, exit_depth)
            if level < levels:
                frontier = self._likeliest(range(first, len(self._nodes)), self._topk)
                self._expanded += frontier
                ids = [self._nodes[i].token for i in frontier]
                weights = [math.exp(self._nodes[i].path_logprob) for i in frontier]
        return self._proposal(min(self._options.tokens, room), self._nested.layer_runs - before)

    def _read(self, ids: Sequence[int], weights: Sequence[float]) -> tuple[Tensor, int]:
        """(log-probabilities (N, V), exit depth) after the last N = len(weights) of new `ids`, a level of the tree."""
        nested, last = self._nested, len(self._nested.exits) - 1
        for stage, threshold in enumerate(self._options.thresholds):
            new = nested.waiting(stage) if stage else len(ids)
            nested.run(stage, ids, *self._place(new))
            logprobs_NV = nested.logits(len(weights)).log_softmax(-1)
            if stage == last or self._confidence(logprobs_NV, weights) > threshold:
                break
        return logprobs_NV, nested.exits[stage]

    def _confidence(self, logprobs_NV: Tensor, weights: Sequence[float]) -> float:
        """The nodes' largest probabilities, averaged by the nodes' own."""
        best: list[float] = logprobs_NV.max(-1).values.exp().tolist()
        return sum(w * p for w, p in zip(weights, best, strict=True)) / sum(weights)

    def _place(self, new: int) -> tuple[Tensor | None, Tensor | None]:
        """(mask, positions) of the last `new` of context and expanded nodes; plain causal before the first node."""
        if not self._expanded:
            return None, None
        order = {node: i for i, node in enumerate(self._expanded)}
        parents = [order.get(self._nodes[node].parent, -1) for node in self._expanded]
        of_context = max(0, new - len(parents))
        nodes = self._expanded[len(parents) - (new - of_context) :]
        positions = [*range(self._context - of_context, self._context)]
        positions += [self._context + self._nodes[node].level - 1 for node in nodes]
        mask_TM = tree_mask(parents, of_context, self._device)[-new:]
        return mask_TM, send(positions, self._device)

    def _add_children(self, logprobs_NV: Tensor, frontier: Sequence[int], level: int, exit_depth: int) -> None:
        """The K likeliest next tokens of every node of the frontier, as candidates."""
        best_NK, token_NK = logprobs_NV.topk(min(self._topk, logprobs_NV.shape[-1]), dim=-1)
        for parent, best, tokens in zip(frontier, best_NK.tolist(), token_NK.tolist(), strict=True):
            so_far = self._nodes[parent].path_logprob if parent >= 0 else 0.0
            for logprob, token in zip(best, tokens, strict=True):
                self._nodes.append(_Node(token, parent, level, logprob, so_far + logprob, exit_depth))

    def _likeliest(self, nodes: Sequence[int], count: int) -> list[int]:
        """The `count` of `nodes` with the highest cumulative probability, in their own order; ties go to the first."""
        return sorted(sorted(nodes, key=lambda node: -self._nodes[node].path_logprob)[:count])

    def _proposal(self, tokens: int, layers: int) -> Proposal:
        """The likeliest candidates as a tree; a node is never likelier than its parent, so parents come along."""
        self._kept = self._likeliest(range(len(self._nodes)), tokens)
        order = {node: i for i, node in enumerate(self._kept)}
        kept = [self._nodes[node] for node in self._kept]
        return Proposal(
            send([node.token for node in kept], self._device),
            logprobs=[node.logprob for node in kept],
            exit_depths=[node.exit_depth for node in kept],
            parents=[order[node.parent] if node.parent >= 0 else -1 for node in kept],
            draft_layers=layers,
        )

    def settle(self, committed: int, verdict: Verdict) -> None:
        """Keep the states of the accepted nodes that the draft has run: the path's beginning."""
        ran = {node: i for i, node in enumerate(self._expanded)}
        path = [self._kept[i] for i in verdict.path or ()]
        self._nested.keep([ran[node] for node in path if node in ran], self._context)
