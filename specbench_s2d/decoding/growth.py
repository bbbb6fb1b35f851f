"""A draft tree that grows level by level from the draft's likeliest nodes, on the device, as EAGLE-2's does (Li et al.
2024, arXiv 2406.16858, section 4), and SD2's.

Shapes: `N` nodes of one level, `K` children of each, `E` expanded nodes, `C` candidates of all levels, `G` proposed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Proposal
from specbench_s2d.models.base import Likeliest


def tree_rows(depth: int, topk: int, tokens: int) -> int:
    """Rows of the pass over the context's last token and the largest tree of `depth` levels, `topk` nodes expanded per
    level with as many children each, of which at most `tokens` are proposed."""
    return min(tokens, topk + (depth - 1) * topk**2) + 1


@dataclass
class Candidates:
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
class Frontier:
    """The expanded nodes of a level: ids, cumulative log-probabilities, and indices among all candidates.

    `mask_EE`: which of all nodes expanded so far each of them attends to. `parents_N`: the index of each one's parent
    in the level above, None on the first.
    """

    ids_N: Tensor
    joint_N: Tensor
    candidates_N: Tensor
    mask_EE: Tensor
    parents_N: Tensor | None


def add_children(found: Candidates, likeliest: Likeliest, frontier: Frontier | None, topk: int) -> None:
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


def expand(found: Candidates, above: Frontier | None, topk: int) -> Frontier:
    """The `topk` likeliest nodes of the last level in index order, to be run next."""
    chosen_N = _top_candidates(found.joint[-1], topk)
    expanded = 0 if above is None else len(above.mask_EE)
    own_NN = torch.eye(len(chosen_N), dtype=torch.bool, device=chosen_N.device)
    found.cached_rows[-1][chosen_N] = torch.arange(expanded, expanded + len(chosen_N), device=chosen_N.device)
    mask_EE = own_NN
    parents_N = None
    if above is not None:
        parents_N = chosen_N // (len(found.joint[-1]) // len(above.ids_N))
        seen_NE = above.mask_EE[-len(above.ids_N) :][parents_N]
        mask_EE = torch.cat((F.pad(above.mask_EE, (0, len(chosen_N))), torch.cat((seen_NE, own_NN), dim=1)))
    before = found.count - len(found.ids[-1])
    return Frontier(found.ids[-1][chosen_N].long(), found.joint[-1][chosen_N], chosen_N + before, mask_EE, parents_N)


def _top_candidates(joint_C: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest cumulative probabilities, ascending; ties go to the first."""
    best_C = joint_C.sort(descending=True, stable=True).indices
    return best_C[:count].sort().values


def proposal_of(found: Candidates, tokens: int, layers: int, exits: tuple[int, ...] = ()) -> Proposal:
    """The likeliest candidates as a tree: with a node its parent is chosen too, for no node is likelier than its
    parent. `layers`: those that the draft ran; `exits`: the depth that each level was read at."""
    chosen_G = _top_candidates(torch.cat(found.joint), tokens)
    ids_G, logprobs_G, cached_rows_G, candidates_G = (
        torch.cat(part)[chosen_G] for part in (found.ids, found.logprobs, found.cached_rows, found.parents)
    )
    parents_G = torch.where(candidates_G < 0, -1, torch.searchsorted(chosen_G, candidates_G))
    tree = Tree(parents_G, _ancestor_mask(parents_G, len(found.ids)), exits, cached_rows_G)
    return Proposal(ids_G.long(), logprobs_G=logprobs_G, tree=tree, draft_layers=layers)


def _ancestor_mask(parents_G: Tensor, depth: int) -> Tensor:
    """`tree_mask` on the device: (G + 1, G + 1), each node sees the context's last token, its ancestors and itself."""
    parents_M = F.pad(parents_G + 1, (1, 0))  # the context's last token is its own parent
    seen_MM = torch.eye(len(parents_M), dtype=torch.bool, device=parents_G.device)
    for _ in range(depth):
        seen_MM = seen_MM | seen_MM[parents_M]
    return seen_MM
