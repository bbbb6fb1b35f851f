"""Teacher forcing: one pass of the target over a prompt and its finished output, outside the timed window.

It gives the output's likelihood, and the logits that the divergence audit compares. A draft is read likewise, to see
that its logits are numbers.
Shapes: `B` = 1 sequence, `T` positions (of an output: its tokens), `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from specbench_s2d.measure.divergence import TokenScores
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.engines.threads import torch_threads
from specbench_s2d.models.finite import NOT_FINITE, first_not_finite, not_finite, teacher_forced

# A margin is a difference of two logits, each of which may move by the largest difference seen, hence 2; that maximum
# is over a sample of about a hundred positions, hence 2 more.
_NOISE_FACTOR = 4.0
NOISE_POSITIONS = 96
"""Positions of a prompt, at most, that a noise bound is measured over."""


@torch.inference_mode()
def score(target: LanguageModel, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> TokenScores:
    """Likelihood and logits of `output_ids` after `prompt_ids` under `target`, whose cache is overwritten."""
    ids_T1 = torch.tensor(list(output_ids), device=target.device)[:, None]

    def scores(logits_TV: Tensor) -> TokenScores:
        nll_T = -torch.log_softmax(logits_TV, -1).gather(1, ids_T1)[:, 0]
        best, second = logits_TV.topk(2, dim=-1).values.T.tolist()
        return TokenScores(float(nll_T.double().sum()), best, second, logits_TV.gather(1, ids_T1)[:, 0].tolist())

    return teacher_forced(target, prompt_ids, output_ids, scores)


@dataclass(frozen=True)
class DraftView:
    """A draft, and the greatest depth in layers that a decoder reads it at."""

    model: LanguageModel
    depth: int

    @classmethod
    def of(cls, draft: LanguageModel, passes: Iterable[PassKind]) -> DraftView:
        """The depth at which the deepest of the declared `passes` ends; a pass of the head alone does not count."""
        return cls(draft, max(kind.to_layer or draft.depth for kind in passes if kind.from_layer < draft.depth))

    def first_not_finite(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> int | None:
        """The function of that name at this depth: what is not finite at an earlier exit is not here either."""
        return first_not_finite(self.model, prompt_ids, output_ids, self.depth)


@dataclass(frozen=True)
class NoiseRows:
    """Widths, in positions, of the passes that a noise bound is measured over: of `chains` and of `trees`, which
    decoders verify, and of the teacher-forced pass, at most `scored`."""

    chains: tuple[int, ...]
    trees: tuple[int, ...]
    scored: int = NOISE_POSITIONS

    @classmethod
    def of(cls, passes: Iterable[PassKind], scored: int = NOISE_POSITIONS) -> NoiseRows:
        """The widths of the target passes that decoders declare. Of a kind that runs over anything from `least` to
        `rows` positions: both ends, and the powers of two between them."""
        kinds = list(passes)
        chains = {width for kind in kinds if not kind.seen for width in _widths(kind)}
        trees = {width for kind in kinds if kind.seen for width in _widths(kind)} - {1}
        return cls(tuple(sorted(chains)), tuple(sorted(trees)), min(scored, NOISE_POSITIONS))


def _widths(kind: PassKind) -> set[int]:
    between = {2**power for power in range(kind.rows.bit_length()) if kind.least <= 2**power <= kind.rows}
    return {kind.least, kind.rows, *between}


@torch.inference_mode()
def logit_noise(target: LanguageModel, prompt_ids: Sequence[int], rows: NoiseRows) -> float:
    """The noise bound: how far rounding may move a difference of two logits between passes over the same positions.

    The last positions of the prompt, up to `NOISE_POSITIONS`, are computed as `score` does; the last one again by the
    prefill; all of them again in passes of the chain widths of `rows`, and as branches of its trees, which the cache
    holds at other places until their path is kept. The bound is 4 times the largest difference of a logit. A greedy
    method that verifies several tokens at once may differ from AR where two logits lie closer than this, and only
    there. Raises `FloatingPointError` where a pass gives logits that are not finite numbers, saying which.
    """
    ids_BT = torch.tensor([list(prompt_ids)], device=target.device)
    total = ids_BT.shape[1]
    first = max(0, total - NOISE_POSITIONS)

    def in_passes(width: int, read: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([read(ids_BT[:, at : at + width])[0] for at in range(first, total, width)])

    target.reset()
    with target.eagerly():
        if first:
            target.extend(ids_BT[:, :first], last_only=True)
        scored_TV = in_passes(rows.scored, target.extend)
    _require_finite(scored_TV, f"{rows.scored} positions at a time")
    target.reset()
    prefilled_TV = target.extend(ids_BT, last_only=True)[0]
    _require_finite(prefilled_TV, "at once")
    differences = [_difference(prefilled_TV, scored_TV[-1:])]
    ways = [(width, width, "chains", target.extend) for width in rows.chains]
    ways += [(width, width - 1, "trees", partial(_as_branch, target)) for width in rows.trees]
    for width, new, kind, read in ways:
        target.rollback(first)
        with torch_threads(target.torch_threads):  # as steps are taken
            logits_TV = in_passes(new, read)
        _require_finite(logits_TV, f"in {kind} of {width} rows")
        differences.append(_difference(logits_TV, scored_TV))
    return _NOISE_FACTOR * max(differences)


def _require_finite(logits_TV: Tensor, how: str) -> None:
    if not_finite(logits_TV) is not None:
        raise FloatingPointError(f"{NOT_FINITE} where a warm-up prompt is run {how}")


def _difference(ours_TV: Tensor, theirs_TV: Tensor) -> float:
    """The largest difference of a logit; two that are -inf are equal."""
    return float(torch.where(ours_TV == theirs_TV, 0.0, (ours_TV - theirs_TV).abs()).max())


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
