"""The joint rule of MJSD, multi-token joint speculative decoding (Qin et al. 2024, arXiv 2407.09722, section 3.2)."""

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
    """Accepts the longest prefix whose joint likelihood under the target is above tau times the draft's: lossy.

    n = max { i : min(1, P_i / Q_i) > tau }, 0 if there is none, where P_i and Q_i are the products of the target's and
    the draft's conditional probabilities of the first i tokens, at temperature 1. A shorter prefix may fail the test.
    The next token is the target's after the accepted prefix, at the run's temperature. In a tree, the longest accepted
    path wins, ties by P. At tau = 1 nothing is accepted.
    """

    lossy: ClassVar[bool] = True
    needs_likelihoods: ClassVar[bool] = True

    class Options(BaseOptions):
        """`tau`: from 0, which accepts everything, to 1, which accepts nothing."""

        tau: Annotated[float, Field(ge=0, le=1, description="A prefix is accepted above this ratio P/Q.")] = 0.5

    def __init__(self, options: JointVerifier.Options) -> None:
        self._log_tau = math.log(options.tau) if options.tau else -math.inf

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        wanted = (logits_TV.argmax(-1), _target_logprobs(proposal, logits_TV), proposal.token_logprobs())
        drafted, (best, target_logprobs, draft_logprobs) = fetch(proposal, *wanted)
        parents, levels = drafted.all_parents, drafted.levels
        log_p, log_q = _log_joint(target_logprobs, parents), _log_joint(draft_logprobs, parents)
        accepted = [i for i in range(len(parents)) if min(0.0, log_p[i] - log_q[i]) > self._log_tau]
        last = max(accepted, key=lambda i: (levels[i], log_p[i]), default=-1)
        path = path_to(last, parents)
        next_id = int(best[last + 1]) if sampler.greedy else sampler.pick(logits_TV[last + 1])
        return Verdict(len(path), next_id, None if proposal.tree is None else path, drafted)


def _target_logprobs(proposal: Proposal, logits_TV: Tensor) -> Tensor:
    """log p (G,) of each proposed token after its parent, at temperature 1 over the full vocabulary."""
    logprobs_TV, ids_G = logits_TV.log_softmax(-1), proposal.ids_G
    if proposal.tree is None:
        return logprobs_TV[: len(ids_G)].gather(1, ids_G[:, None])[:, 0]
    return logprobs_TV[proposal.tree.parents_N + 1, ids_G]


def _log_joint(logprobs: Sequence[float], parents: Sequence[int]) -> list[float]:
    """log P or log Q of the path to each token: the sum of log-probabilities from the root."""
    sums: list[float] = []
    for logprob, parent in zip(logprobs, parents, strict=True):
        sums.append(logprob + (sums[parent] if parent >= 0 else 0.0))
    return sums
