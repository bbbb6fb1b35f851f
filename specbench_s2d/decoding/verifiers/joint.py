"""The joint rule of MJSD (Qin et al. 2024, arXiv 2407.09722, section 3.2): tokens are judged together, not singly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import path_to, tree_levels
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict


class JointVerifier:
    """Accepts the longest beginning whose joint likelihood under the target is above tau times the draft's: lossy.

    n = max { i : min(1, P_i / Q_i) > tau }, P_i and Q_i being the products of the conditional probabilities of the
    first i tokens at temperature 1; shorter beginnings may fail. The next token is the target's after the accepted
    ones, as the run's temperature says. Of a tree, the longest accepted path wins, ties by P.
    At tau = 1 nothing passes.
    """

    lossy: ClassVar[bool] = True

    class Options(BaseOptions):
        """`tau`: from 0, which accepts everything, to 1, which accepts nothing."""

        tau: Annotated[float, Field(ge=0, le=1, description="A beginning passes above this ratio P/Q.")] = 0.5

    def __init__(self, options: JointVerifier.Options) -> None:
        self._log_tau = math.log(options.tau) if options.tau else -math.inf

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        parents, drafted = proposal.parents, len(proposal.ids_G)
        above = list(range(-1, drafted - 1)) if parents is None else parents
        both = torch.cat((proposal.ids_G, logits_TV.argmax(-1))).tolist()
        ids, best = both[:drafted], both[drafted:]
        log_p = _joint(target_logprobs(proposal.ids_G, above, logits_TV), above)
        log_q = _joint(proposal.token_logprobs(), above)
        levels = tree_levels(above)
        passing = [i for i in range(len(above)) if min(0.0, log_p[i] - log_q[i]) > self._log_tau]
        last = max(passing, key=lambda i: (levels[i], log_p[i]), default=-1)
        path = path_to(last, above)
        next_id = best[last + 1] if sampler.greedy else sampler.pick(logits_TV[last + 1])
        return Verdict(len(path), next_id, None if parents is None else path, ids)


def target_logprobs(ids_G: Tensor, parents: Sequence[int], logits_TV: Tensor) -> list[float]:
    """log p of each proposed token after its parent, at temperature 1 over the whole vocabulary."""
    if not len(ids_G):
        return []
    rows_G = torch.tensor(parents, device=logits_TV.device) + 1
    logprobs_TV = logits_TV.log_softmax(-1)
    chosen: list[float] = logprobs_TV[rows_G, ids_G.to(logits_TV.device)].tolist()
    return chosen


def _joint(logprobs: Sequence[float], parents: Sequence[int]) -> list[float]:
    """Logarithm of each token's probability together with all tokens above it."""
    sums: list[float] = []
    for logprob, parent in zip(logprobs, parents, strict=True):
        sums.append(logprob + (sums[parent] if parent >= 0 else 0.0))
    return sums
