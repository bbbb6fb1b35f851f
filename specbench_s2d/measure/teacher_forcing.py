"""Teacher forcing: one pass of the target over a prompt and its finished output, outside the timed window.

It gives the output's likelihood, and the logits that the divergence audit compares.
Shapes: `B` = 1 sequence, `T` positions (of an output: its tokens), `V` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from specbench_s2d.measure.divergence import TokenScores
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.engines.threads import torch_threads

# A margin is a difference of two logits, each of which may move by the largest difference seen, hence 2; that maximum
# is over a sample of about a hundred positions, hence 2 more.
_NOISE_FACTOR = 4.0


@torch.inference_mode()
def score(target: LanguageModel, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> TokenScores:
    """Likelihood and logits of `output_ids` after `prompt_ids` under `target`, whose cache is overwritten."""
    *before, last = prompt_ids
    seen = [last, *output_ids[:-1]]
    target.reset()
    with target.eagerly():
        if before:  # in a pass of their own: their logits are not needed
            target.extend(torch.tensor([before], device=target.device), last_only=True)
        logits_TV = target.extend(torch.tensor([seen], device=target.device))[0].float()
    ids_T1 = torch.tensor(list(output_ids), device=target.device)[:, None]
    nll_T = -torch.log_softmax(logits_TV, -1).gather(1, ids_T1)[:, 0]
    best_T2 = logits_TV.topk(2, dim=-1).values
    chosen_T = logits_TV.gather(1, ids_T1)[:, 0]
    return TokenScores(float(nll_T.double().sum()), best_T2[:, 0].tolist(), best_T2[:, 1].tolist(), chosen_T.tolist())


@dataclass(frozen=True)
class NoiseRows:
    """Widths, in positions, of the passes that a noise bound is measured over: of chains, and of trees; of these none
    where the model takes no mask."""

    chains: tuple[int, ...]
    trees: tuple[int, ...]


def noise_rows(target: LanguageModel, rows: Iterable[int] = (6,), tree_rows: Iterable[int] = (6,)) -> NoiseRows:
    """The widths to measure for decoders that verify chains of `rows` positions and trees of `tree_rows`; chains of 1,
    2 and 4 are always among them."""
    trees = sorted({width for width in tree_rows if width > 1}) if target.takes_masks else ()
    return NoiseRows(tuple(sorted({1, 2, 4, *rows})), tuple(trees))


@torch.inference_mode()
def logit_noise(
    target: LanguageModel, prompt_ids: Sequence[int], rows: Iterable[int] = (6,), tree_rows: Iterable[int] = (6,)
) -> float:
    """The noise bound: how far rounding may move a difference of two logits between passes over the same positions.

    The last (up to 96) positions of the prompt are computed in one pass, as `score` does; again in passes of the chain
    widths of `noise_rows`; and again as branches of its trees, which the cache holds at other places until their path
    is kept. The bound is 4 times the largest difference of a logit. A greedy method that verifies several tokens at
    once may differ from AR where two logits lie closer than this, and only there. Not-a-number where a pass gives
    such: then no difference is excused.
    """
    ids_BT = torch.tensor([list(prompt_ids)], device=target.device)
    total = ids_BT.shape[1]
    first = max(0, total - 96)
    target.reset()
    with target.eagerly():
        wide_TV = target.extend(ids_BT)[0, first:]
    widths = noise_rows(target, rows, tree_rows)
    ways = [(width, target.extend) for width in widths.chains]
    ways += [(width - 1, partial(_as_branch, target)) for width in widths.trees]
    differences = []
    for width, read in ways:
        target.rollback(first)
        with torch_threads(target.torch_threads):  # as steps are taken
            parts = [read(ids_BT[:, at : at + width])[0] for at in range(first, total, width)]
        differences.append(float((torch.cat(parts) - wide_TV).abs().max()))
    return _NOISE_FACTOR * largest(differences)


def largest(numbers: Sequence[float]) -> float:
    """The largest; not-a-number if any is, which `max` alone would ignore."""
    return next((number for number in numbers if math.isnan(number)), max(numbers))


def _as_branch(target: LanguageModel, ids_BT: Tensor) -> Tensor:
    """(B, T, V) logits of a chain verified as the second branch of a tree, after a first branch of one token; the
    chain's path is kept."""
    start, width = target.length, ids_BT.shape[1]
    mask_TT = torch.ones(width + 1, width + 1, dtype=torch.bool, device=target.device).tril()
    mask_TT[1:, 0] = False
    both_BT = torch.cat((ids_BT[:, :1], ids_BT), dim=1)
    logits_BTV = target.extend(both_BT, mask=mask_TT)[:, 1:]
    target.keep_path(range(1, width + 1), start)
    return logits_BTV
