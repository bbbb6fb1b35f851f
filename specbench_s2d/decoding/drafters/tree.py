"""The adaptive tree of SD2, S2D's follow-up: the sorted draft grows a tree by cumulative probability.

The tree is grown on the device. The host waits only for the confidences that exits are chosen by, and learns the tokens
together with the verdict.
Shapes: `N` nodes of one level, `K` children of each, `E` expanded nodes, `C` candidates of all levels, `V` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from specbench_s2d.decoding.drafters.sorted import ThresholdOptions, check_exits_and_thresholds
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel, Likeliest, PassKind
from specbench_s2d.models.exits import HasExits, resolve_exits
from specbench_s2d.models.nested import MANY, NestedDraft, stage_passes


@dataclass
class _Candidates:
    """All nodes seen so far, one tensor (N * K,) per level; ids are float32, as the model returns them.

    `joint`: cumulative log-probability, float64. `parents`: indices among all candidates, -1 for the context.
    `cached_rows`: the node's row among the positions run since the context, -1 for a node that was not expanded.
    """

    ids: list[Tensor] = field(default_factory=list)
    logprobs: list[Tensor] = field(default_factory=list)
    joint: list[Tensor] = field(default_factory=list)
    parents: list[Tensor] = field(default_factory=list)
    cached_rows: list[Tensor] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.ids))


@dataclass(frozen=True)
class _Frontier:
    """The expanded nodes of a level: ids, cumulative log-probabilities, and indices among all candidates.

    `mask_EE`: which of all nodes expanded so far each of them attends to.
    """

    ids_N: Tensor
    joint_N: Tensor
    candidates_N: Tensor
    mask_EE: Tensor


class TreeDrafter:
    """Grows a tree level by level from the draft's likeliest nodes, and proposes the likeliest nodes of all levels.

    A level leaves at the first exit where the mean confidence of its nodes, weighted by their probabilities, is above
    the threshold; on the first level, a single node, this is S2D's own rule. Near the end of the context window the
    tree is narrower.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "nested"
    has_likelihoods: ClassVar[bool] = True

    class Options(ThresholdOptions):
        """`depth`: levels. `topk`: nodes expanded per level, and children of each. `tokens`: most nodes proposed."""

        depth: Annotated[int, Field(ge=1, description="Levels of the tree.")] = 4
        topk: Annotated[int, Field(ge=1, description="Nodes expanded per level, and children of each.")] = 10
        tokens: Annotated[int, Field(ge=1, description="Most tokens of one proposal, by cumulative probability.")] = 60

    def __init__(self, draft: LanguageModel, options: TreeDrafter.Options) -> None:
        self.check_draft(options, draft)
        self._nested, self._options = NestedDraft(draft, options.exits), options
        self._device = draft.device

    check_draft = staticmethod(check_exits_and_thresholds)

    @staticmethod
    def draft_passes(options: TreeDrafter.Options, draft: HasExits) -> list[PassKind]:
        """The end of the context, then each level under a mask; later stages run over all waiting states as well."""
        exits, o = resolve_exits(draft, options.exits), options
        seen = o.topk * (o.depth - 1) + MANY
        levels = stage_passes(exits, o.topk, o.topk, seen, least=o.topk) if o.depth > 1 else []
        return [*stage_passes(exits, 2, o.topk), *levels]

    @staticmethod
    def target_passes(options: TreeDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and all tokens of the tree."""
        o = options
        rows = min(o.tokens, o.topk + (o.depth - 1) * o.topk**2) + 1
        return [PassKind(rows, seen=rows, least=rows)]

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._nested.prefill(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        o, nested = self._options, self._nested
        before, levels, self._context = nested.layer_runs, min(o.depth, room), len(context)
        topk = max(1, min(o.topk, room // max(levels, 1)))
        found, frontier, exits = _Candidates(), None, list[int]()
        unseen: Sequence[int] | Tensor = context[nested.length :]
        for level in range(1, levels + 1):
            likeliest, exit_depth = self._read(unseen, frontier)
            exits.append(exit_depth)
            _add_children(found, likeliest, frontier, topk)
            if level < levels:
                frontier = _expand(found, frontier, topk)
                unseen = frontier.ids_N[None]
        layers = nested.layer_runs - before
        if not levels:
            return Proposal(torch.empty(0, dtype=torch.long, device=self._device), draft_layers=layers)
        return _proposal(found, min(o.tokens, room), tuple(exits), layers)

    def _read(self, unseen: Sequence[int] | Tensor, frontier: _Frontier | None) -> tuple[Likeliest, int]:
        """(the K likeliest tokens after every node of a level, exit depth), at the first exit whose confidence is above
        its threshold, else the last."""
        nested, level = self._nested, _LevelConfidence(frontier)
        rows = 1 if frontier is None else len(frontier.ids_N)
        last = len(nested.exits) - 1
        for stage, threshold in enumerate(self._options.thresholds):
            new = nested.waiting(stage) if stage else rows
            mask_TM = None if frontier is None else _mask(frontier.mask_EE, new)
            likeliest = nested.read(stage, unseen, mask_TM, rows, self._options.topk)
            if stage == last or level.confidence(likeliest) > threshold:
                break
        return likeliest, nested.exits[stage]

    def commit(self, committed: int, verdict: Verdict) -> None:
        """Keep the accepted nodes that the draft has run in its cache: a prefix of the accepted path."""
        cached = verdict.drafted.cached_rows if verdict.drafted else None
        path = [cached[i] for i in verdict.accepted_path] if cached else []
        self._nested.keep_path([row for row in path if row >= 0], self._context)


class _LevelConfidence:
    """The confidence of a level: the mean of its nodes' confidences, weighted by the nodes' cumulative
    probabilities."""

    def __init__(self, frontier: _Frontier | None) -> None:
        self._joint_N = None if frontier is None else frontier.joint_N
        self._weights: list[float] = [] if frontier else [1.0]

    def confidence(self, likeliest: Likeliest) -> float:
        """The weighted mean; the host waits for the device, the first time for the weights as well."""
        best_N = likeliest.logprobs_RK[:, 0]
        if not self._weights and self._joint_N is not None:
            values: list[float] = torch.cat((best_N, self._joint_N)).tolist()
            best, joint = values[: len(best_N)], values[len(best_N) :]
            self._weights = [math.exp(own - max(joint)) for own in joint]  # relative, as all deep nodes are unlikely
        else:
            best = best_N.tolist()
        weighed = sum(w * math.exp(p) for w, p in zip(self._weights, best, strict=True))
        return weighed / sum(self._weights)


def _mask(mask_EE: Tensor, new: int) -> Tensor:
    """The attention mask (T, M) of the last `new` positions of context and expanded nodes."""
    before = new - len(mask_EE)
    if before <= 0:
        return mask_EE[-new:]
    causal_TB = mask_EE.new_ones(new, before).tril()
    return torch.cat((causal_TB, F.pad(mask_EE, (0, 0, before, 0))), dim=1)


def _add_children(found: _Candidates, likeliest: Likeliest, frontier: _Frontier | None, topk: int) -> None:
    """Add the K likeliest next tokens of every node of the frontier to the candidates."""
    logprobs_NK = likeliest.logprobs_RK[:, :topk]
    joint_NK = logprobs_NK.double()
    if frontier is None:
        parents_NK = torch.full_like(logprobs_NK, -1, dtype=torch.long)
    else:
        joint_NK += frontier.joint_N[:, None]
        parents_NK = frontier.candidates_N[:, None].expand_as(joint_NK)
    found.ids.append(likeliest.packed_2RK[1, :, :topk].flatten())
    found.logprobs.append(logprobs_NK.flatten())
    found.joint.append(joint_NK.flatten())
    found.parents.append(parents_NK.flatten())
    found.cached_rows.append(torch.full_like(found.parents[-1], -1))


def _expand(found: _Candidates, above: _Frontier | None, topk: int) -> _Frontier:
    """The `topk` likeliest nodes of the last level in index order, to be run next."""
    chosen_N = _top_candidates(found.joint[-1], topk)
    expanded = 0 if above is None else len(above.mask_EE)
    own_NN = torch.eye(len(chosen_N), dtype=torch.bool, device=chosen_N.device)
    found.cached_rows[-1][chosen_N] = torch.arange(expanded, expanded + len(chosen_N), device=chosen_N.device)
    mask_EE = own_NN
    if above is not None:
        parents_N = chosen_N // (len(found.joint[-1]) // len(above.ids_N))
        seen_NE = above.mask_EE[-len(above.ids_N) :][parents_N]
        mask_EE = torch.cat((F.pad(above.mask_EE, (0, len(chosen_N))), torch.cat((seen_NE, own_NN), dim=1)))
    before = found.count - len(found.ids[-1])
    return _Frontier(found.ids[-1][chosen_N].long(), found.joint[-1][chosen_N], chosen_N + before, mask_EE)


def _top_candidates(joint_C: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest cumulative probabilities, ascending; ties go to the first."""
    best_C = joint_C.sort(descending=True, stable=True).indices
    return best_C[:count].sort().values


def _proposal(found: _Candidates, tokens: int, exits: tuple[int, ...], layers: int) -> Proposal:
    """The likeliest candidates as a tree: with a node its parent is chosen too, for no node is likelier than its
    parent."""
    chosen_G = _top_candidates(torch.cat(found.joint), tokens)
    ids_G, logprobs_G, cached_rows_G, candidates_G = (
        torch.cat(part)[chosen_G] for part in (found.ids, found.logprobs, found.cached_rows, found.parents)
    )
    parents_G = torch.where(candidates_G < 0, -1, torch.searchsorted(chosen_G, candidates_G))
    tree = Tree(parents_G, _ancestor_mask(parents_G, len(exits)), exits, cached_rows_G)
    return Proposal(ids_G.long(), logprobs_G=logprobs_G, tree=tree, draft_layers=layers)


def _ancestor_mask(parents_G: Tensor, depth: int) -> Tensor:
    """`tree_mask` on the device: (G + 1, G + 1), each node sees the context's last token, its ancestors and itself."""
    parents_M = F.pad(parents_G + 1, (1, 0))  # the context's last token is its own parent
    seen_MM = torch.eye(len(parents_M), dtype=torch.bool, device=parents_G.device)
    for _ in range(depth):
        seen_MM = seen_MM | seen_MM[parents_M]
    return seen_MM
