"""Beam search over one cache: the beams of a level run as one batch of positions, and the prefix is never copied.

Beams are the paths of a tree. A level's W beams are W positions after the context, each of which sees the context, its
own ancestors and itself; to reorder beams is to name other parents. Afterwards the cache keeps one path.
Shapes: `W` beams, `k` continuations of each, `V` vocabulary, `M` positions run since the context, `N` = W * k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from specbench_s2d.models.base import PassKind
from specbench_s2d.models.exit_view import ExitView, reader_passes
from specbench_s2d.models.transfer import to_device


@dataclass(frozen=True)
class Cells:
    """Chosen continuations: the tokens, which beams they continue (places in the level above), and their joint
    log-likelihoods; (W,) each, best first."""

    ids_W: Tensor
    parents_W: Tensor
    joint_W: Tensor


Choice = Callable[[ExitView, Tensor, "Tensor | None", "Tensor | None", int], Cells]
"""(reader, new ids (B, T), the beams' mask, their joint log-likelihoods, how many) to the chosen continuations. Before
the first level there are no beams: one continuation of the last new id is read."""


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


def likeliest(
    reader: ExitView,
    ids_BT: Tensor,
    mask_WM: Tensor | None,
    above_W: Tensor | None,
    count: int,
    prepared: Sequence[int] = (),
) -> Cells:
    """The `count` continuations of the highest joint likelihood; of equals, the first where one is asked for.

    No beam has more than `count` of them, so that each beam's own best are all that need be compared: as many of them
    are read as the next of `prepared`, for which passes are, or `count`. Of one row alone the best by logit are the
    best: that tells apart what their logarithms round together.
    """
    best = min((number for number in prepared if number >= count), default=count)
    logprobs_Wk, ids_Wk = reader.likeliest(ids_BT, mask_WM, best).packed_2RK
    if above_W is None:
        ids_k = ids_Wk[0, :count].long()
        return Cells(ids_k, torch.zeros_like(ids_k), logprobs_Wk[0, :count])
    joint_N = (logprobs_Wk + above_W[:, None]).flatten()
    places_W = best_places(joint_N, count)
    return Cells(ids_Wk.flatten()[places_W].long(), places_W // ids_Wk.shape[1], joint_N[places_W])


def best_places(values_N: Tensor, count: int) -> Tensor:
    """Where the `count` highest values are, best first; of equals, the first where one is asked for."""
    return values_N.argmax(0, keepdim=True) if count == 1 else values_N.topk(min(count, len(values_N))).indices


@torch.inference_mode()
def beam_search(
    reader: ExitView,
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
    ids_BT, mask_WM, joint_W = to_device([list(unseen_ids)], device), None, None
    chosen: list[Cells] = []
    while True:
        cells = choose(reader, ids_BT, mask_WM, joint_W, width if len(chosen) + 1 < depth else finished)
        chosen.append(cells)
        if len(chosen) == depth:
            return _beams(chosen)
        own_WW = torch.eye(len(cells.ids_W), dtype=torch.bool, device=device)
        mask_WM = own_WW if mask_WM is None else torch.cat((mask_WM[cells.parents_W], own_WW), dim=1)
        ids_BT, joint_W = cells.ids_W[None], cells.joint_W


def search_passes(
    exit: int | None,  # noqa: A002 - the field's term
    layers: int,
    depth: int,
    width: int,
    finished: int,
    drawn: bool = False,
) -> list[PassKind]:
    """The passes of a search `depth` tokens deep on a model of so many layers, read at `exit`: over the context's end
    (after a proposal that was accepted whole, two tokens are new to the model), then level by level under a wider mask.

    Every level asks each beam for as many continuations as there will be beams, the last for the finished ones; next to
    the context's end, where beams are fewer, `likeliest` reads as many all the same.
    """
    counts = [0] if drawn else sorted({width, finished} if depth > 1 else {finished})
    passes = [kind for best in counts for kind in reader_passes(exit, layers, rows=2, best=best)]
    if depth > 1:
        seen = width * (depth - 1)
        passes += [kind for best in counts for kind in reader_passes(exit, layers, width, best, seen, width)]
    return passes


def _beams(chosen: Sequence[Cells]) -> Beams:
    """The levels as lists, all fetched in one wait; whole numbers as float32, exact below 2^24."""
    widths = [len(cells.ids_W) for cells in chosen]
    rows = [*(c.ids_W for c in chosen), *(c.parents_W for c in chosen), *(c.joint_W for c in chosen)]
    together = iter(torch.cat(rows).tolist())
    ids, parents, joint = ([list(islice(together, width)) for width in widths] for _ in range(3))
    above, logprobs = [0.0], list[list[float]]()
    for places, own in zip(parents, joint, strict=True):
        logprobs.append([value - above[int(place)] for value, place in zip(own, places, strict=True)])
        above = own
    best = sorted(range(len(above)), key=lambda place: -above[place])
    return Beams(
        [[int(i) for i in level] for level in ids], [[int(p) for p in level] for level in parents], logprobs, best
    )
