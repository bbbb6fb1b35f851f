"""The joint rule of MJSD (Qin et al. 2024, arXiv 2407.09722, section 3.2): tokens are judged together, not singly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import path_to
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict, fetch


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
        wanted = (logits_TV.argmax(-1), _target_logprobs(proposal, logits_TV), proposal.likelihoods())
        drafted, (best, target_logprobs, draft_logprobs) = fetch(proposal, *wanted)
        above, levels = drafted.above, drafted.levels
        log_p, log_q = _joint(target_logprobs, above), _joint(draft_logprobs, above)
        passing = [i for i in range(len(above)) if min(0.0, log_p[i] - log_q[i]) > self._log_tau]
        last = max(passing, key=lambda i: (levels[i], log_p[i]), default=-1)
        path = path_to(last, above)
        next_id = int(best[last + 1]) if sampler.greedy else sampler.pick(logits_TV[last + 1])
        return Verdict(len(path), next_id, None if proposal.tree is None else path, drafted)


def _target_logprobs(proposal: Proposal, logits_TV: Tensor) -> Tensor:
    """log p (G,) of each proposed token after its parent, at temperature 1 over the whole vocabulary."""
    logprobs_TV, ids_G = logits_TV.log_softmax(-1), proposal.ids_G
    if proposal.tree is None:
        return logprobs_TV[: len(ids_G)].gather(1, ids_G[:, None])[:, 0]
    return logprobs_TV[proposal.tree.parents_N + 1, ids_G]


def _joint(logprobs: Sequence[float], parents: Sequence[int]) -> list[float]:
    """Logarithm of each token's probability together with all tokens above it."""
    sums: list[float] = []
    for logprob, parent in zip(logprobs, parents, strict=True):
        sums.append(logprob + (sums[parent] if parent >= 0 else 0.0))
    return sums
