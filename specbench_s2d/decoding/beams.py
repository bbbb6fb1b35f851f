"""Beam search over one key-value cache: the beams of a level run as one pass, and the prefix is never copied.

Beams are the paths of a tree. The W beams of a level are W positions after the context; each attends to the context,
its own ancestors and itself. Reordering beams only changes parent indices, and afterwards the cache keeps one path.
Shapes: `W` beams, `k` continuations of each, `V` vocabulary, `M` positions run since the context, `N` = W * k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from specbench_s2d.models.base import PassKind
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.exit_view import ExitView, reader_passes
from specbench_s2d.models.transfer import to_device


@dataclass(frozen=True)
class Continuations:
    """The beams chosen at one level, best first, (W,) each: token ids, parents (indices of beams in the level above)
    and joint log-likelihoods."""

    ids_W: Tensor
    parents_W: Tensor
    joint_W: Tensor


ChooseContinuations = Callable[[ExitView, Tensor, "Tensor | None", "Tensor | None", int], Continuations]
"""(model, new ids (B, T), mask of the beams, their joint log-likelihoods, how many to choose) to the chosen beams.

At the first level mask and likelihoods are None: the beams continue the last of the new ids."""


@dataclass(frozen=True)
class Beams:
    """The beams of a finished search, one list per level.

    `ids`; `parents`: indices in the level above; `logprobs`: log of the conditional probability at temperature 1.
    `best`: indices in the last level, by falling joint likelihood.
    """

    ids: list[list[int]]
    parents: list[list[int]]
    logprobs: list[list[float]]
    best: list[int]

    @property
    def depth(self) -> int:
        return len(self.ids)

    def path(self, index: int) -> list[int]:
        """The index at each level, from the first, of the beam that ends at `index` in the last level."""
        indices = []
        for level in reversed(range(self.depth)):
            indices.append(index)
            index = self.parents[level][index]
        return indices[::-1]

    def rows(self, path: Sequence[int]) -> list[int]:
        """The rows of a path among the positions run since the context; the last level is never run."""
        starts = [sum(map(len, self.ids[:level])) for level in range(self.depth)]
        return [starts[level] + index for level, index in enumerate(path[: self.depth - 1])]


def best_continuations(
    view: ExitView,
    ids_BT: Tensor,
    mask_WM: Tensor | None,
    joint_W: Tensor | None,
    count: int,
    prepared: Sequence[int] = (),
) -> Continuations:
    """The `count` continuations of the highest joint likelihood; of equal ones, the first where `count` is 1.

    At most `count` of them continue the same beam, so only the `count` best tokens of each beam are read; or, where the
    engine has prepared passes for other numbers (`prepared`), the next of those. At the first level tokens are ranked
    by their logits, which tell apart tokens whose log-probabilities round to the same value.
    """
    best = min((number for number in prepared if number >= count), default=count)
    logprobs_Wk, ids_Wk = view.likeliest(ids_BT, mask_WM, best).packed_2RK
    if joint_W is None:
        ids_k = ids_Wk[0, :count].long()
        return Continuations(ids_k, torch.zeros_like(ids_k), logprobs_Wk[0, :count])
    joint_N = (logprobs_Wk + joint_W[:, None]).flatten()
    chosen_W = best_indices(joint_N, count)
    return Continuations(ids_Wk.flatten()[chosen_W].long(), chosen_W // ids_Wk.shape[1], joint_N[chosen_W])


def best_indices(values_N: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest values, best first; of equal ones, the first where `count` is 1."""
    return values_N.argmax(0, keepdim=True) if count == 1 else values_N.topk(min(count, len(values_N))).indices


@torch.inference_mode()
def beam_search(
    view: ExitView,
    unseen_ids: Sequence[int],
    depth: int,
    width: int,
    finished: int,
    choose: ChooseContinuations = best_continuations,
) -> Beams:
    """The best `finished` continuations of `depth` tokens (1 or more) after a context, by joint likelihood.

    `unseen_ids`: the end of the context that `view` has not run, at least its last token. `width`: beams carried on
    from level to level; the search is exact for one finished beam where that is at least V^(depth-1). Runs `depth`
    passes; leaves the context and the beams of all levels but the last in the cache.
    """
    device = view.model.device
    ids_BT, mask_WM, joint_W = to_device([list(unseen_ids)], device), None, None
    levels: list[Continuations] = []
    while True:
        beams = choose(view, ids_BT, mask_WM, joint_W, width if len(levels) + 1 < depth else finished)
        levels.append(beams)
        if len(levels) == depth:
            return _to_host(levels)
        own_WW = torch.eye(len(beams.ids_W), dtype=torch.bool, device=device)
        mask_WM = own_WW if mask_WM is None else torch.cat((mask_WM[beams.parents_W], own_WW), dim=1)
        ids_BT, joint_W = beams.ids_W[None], beams.joint_W


def search_passes(
    exit: int | None,  # noqa: A002 - the field's term
    layers: int,
    depth: int,
    width: int,
    finished: int,
    drawn: bool = False,
    unseen: int = 2,
    vocabulary: DraftVocabulary | None = None,
) -> list[PassKind]:
    """The passes of a search `depth` tokens deep on a model of `layers` layers, read at `exit`.

    The first pass runs the `unseen` end of the context (two tokens after a fully accepted proposal), each later one a
    level of beams, under a mask that widens. A level reads the `width` best tokens of every beam, the last level the
    `finished` best; `best_continuations` reads as many near the end of the context window, where beams are fewer.
    """
    counts = [0] if drawn else sorted({width, finished} if depth > 1 else {finished})
    first = partial(reader_passes, exit, layers, unseen, vocabulary=vocabulary)
    passes = [kind for best in counts for kind in first(best)]
    if depth > 1:
        seen = width * (depth - 1)
        later = partial(reader_passes, exit, layers, width, seen=seen, least=width, vocabulary=vocabulary)
        passes += [kind for best in counts for kind in later(best)]
    return passes


def _to_host(levels: Sequence[Continuations]) -> Beams:
    """All levels as lists, copied in one wait; ids and indices travel as float32, which is exact below 2^24. Raises
    `FloatingPointError` for a likelihood that is no number, with how many levels lie before it."""
    widths = [len(level.ids_W) for level in levels]
    tensors = [*(c.ids_W for c in levels), *(c.parents_W for c in levels), *(c.joint_W for c in levels)]
    values = iter(torch.cat(tensors).tolist())
    ids, parents, joint = ([list(islice(values, width)) for width in widths] for _ in range(3))
    for level, own in enumerate(joint):
        if any(map(math.isnan, own)):
            raise FloatingPointError(level)
    above, logprobs = [0.0], list[list[float]]()
    for indices, own in zip(parents, joint, strict=True):
        logprobs.append([value - above[int(index)] for value, index in zip(own, indices, strict=True)])
        above = own
    best = sorted(range(len(above)), key=lambda index: -above[index])
    return Beams(
        [[int(i) for i in level] for level in ids], [[int(p) for p in level] for level in parents], logprobs, best
    )
