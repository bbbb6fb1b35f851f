"""Beam search over one cache: the beams of a level run as one batch of positions, and the prefix is never copied.

Beams are the paths of a tree. A level's W beams are W positions after the context, each of which sees the context, its
own ancestors and itself; to reorder beams is to name other parents. Afterwards the cache keeps one path.
Shapes: `W` beams, `V` vocabulary, `M` positions run since the context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specbench_s2d.models.reader import Reader
from specbench_s2d.models.sending import send

Choice = Callable[[Tensor, int], Tensor]
"""(joint log-likelihoods (W, V), of one row up to a constant; how many) to the chosen cells of the flattened table."""


@dataclass(frozen=True)
class Beams:
    """The beams of a finished search: `ids`, `parents` (places in the level above) and `logprobs` (natural logarithm
    of the conditional probability at temperature 1), each a list per level. `best`: places in the last level, by
    falling joint likelihood."""

    ids: list[list[int]]
    parents: list[list[int]]
    logprobs: list[list[float]]
    best: list[int]

    @property
    def depth(self) -> int:
        return len(self.ids)

    def path(self, place: int) -> list[int]:
        """The place at each level, from the first, of the beam that ends at `place` in the last."""
        places = []
        for level in reversed(range(self.depth)):
            places.append(place)
            place = self.parents[level][place]
        return places[::-1]

    def rows(self, path: Sequence[int]) -> list[int]:
        """Which of the positions run since the context hold this path; the last level is never run."""
        starts = [sum(map(len, self.ids[:level])) for level in range(self.depth)]
        return [starts[level] + place for level, place in enumerate(path[: self.depth - 1])]


def likeliest(joint_WV: Tensor, count: int) -> Tensor:
    """The `count` cells of the highest joint likelihood, best first; of equals, the first where one is asked for.

    Row by row, then among the rows' best: one search over all W x V cells would want memory that a system gives anew
    each time.
    """
    if count == 1:
        return joint_WV.flatten().argmax(0, keepdim=True)
    vocabulary = joint_WV.shape[-1]
    best_WK, ids_WK = joint_WV.topk(min(count, vocabulary), dim=-1)
    places = best_WK.flatten().topk(min(count, best_WK.numel())).indices
    return ids_WK.flatten()[places] + places // best_WK.shape[-1] * vocabulary


@torch.inference_mode()
def beam_search(
    reader: Reader,
    unseen_ids: Sequence[int],
    context: int,
    depth: int,
    width: int,
    finished: int,
    choose: Choice = likeliest,
) -> Beams:
    """The best `finished` continuations of `depth` tokens (1 or more) after a context, by joint likelihood.

    `unseen_ids`: the end of the context that `reader` has not run, at least its last token; `context`: its whole
    length; `width`: beams that are carried on from level to level. Exact for one finished beam where `width` is at
    least V^(depth-1). Runs `depth` passes; leaves the context and the beams of all levels but the last in the cache.
    """
    device = reader.model.device
    logits_WV = reader.next_logits(send([list(unseen_ids)], device))
    vocabulary = logits_WV.shape[-1]
    joint_WV, mask_WM = logits_WV.log_softmax(-1), torch.empty(1, 0, dtype=torch.bool, device=device)
    chosen: list[tuple[Tensor, Tensor]] = []
    ranked_WV = logits_WV  # of one row alone logits say the same, and tell apart what their logarithms round together
    while True:
        cells_W = choose(ranked_WV, width if len(chosen) + 1 < depth else finished)
        joint_W = joint_WV.flatten()[cells_W]
        chosen.append((cells_W, joint_W))
        if len(chosen) == depth:
            return _beams(chosen, vocabulary)
        ids_W, parents_W = cells_W % vocabulary, cells_W // vocabulary
        own_WW = torch.eye(len(ids_W), dtype=torch.bool, device=device)
        mask_WM = torch.cat((mask_WM[parents_W], own_WW), dim=1)
        logits_WV = reader.logits(ids_W[None], mask_WM, torch.full_like(ids_W, context + len(chosen) - 1))
        ranked_WV = joint_WV = logits_WV.log_softmax(-1).add_(joint_W[:, None])


def _beams(chosen: Sequence[tuple[Tensor, Tensor]], vocabulary: int) -> Beams:
    """The levels as lists: each cell is its parent's place times V, plus the token; all are fetched at once."""
    widths = [len(cells_W) for cells_W, _ in chosen]
    cells: list[int] = torch.cat([cells_W for cells_W, _ in chosen]).tolist()
    joint: list[float] = torch.cat([joint_W for _, joint_W in chosen]).tolist()
    ids, parents, logprobs = list[list[int]](), list[list[int]](), list[list[float]]()
    above, start = [0.0], 0
    for width in widths:
        places, own = cells[start : start + width], joint[start : start + width]
        ids.append([cell % vocabulary for cell in places])
        parents.append([cell // vocabulary for cell in places])
        logprobs.append([value - above[parent] for value, parent in zip(own, parents[-1], strict=True)])
        above, start = own, start + width
    return Beams(ids, parents, logprobs, sorted(range(len(above)), key=lambda place: -above[place]))
