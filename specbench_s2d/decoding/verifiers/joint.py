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
from specbench_s2d.models.sending import send


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
        parents = proposal.parents
        above = list(range(-1, len(proposal.ids_G) - 1)) if parents is None else parents
        ids, best, logprobs = _read(proposal.ids_G, above, logits_TV)
        log_p = _joint(logprobs, above)
        log_q = _joint(proposal.token_logprobs(), above)
        levels = tree_levels(above)
        passing = [i for i in range(len(above)) if min(0.0, log_p[i] - log_q[i]) > self._log_tau]
        last = max(passing, key=lambda i: (levels[i], log_p[i]), default=-1)
        path = path_to(last, above)
        next_id = best[last + 1] if sampler.greedy else sampler.pick(logits_TV[last + 1])
        return Verdict(len(path), next_id, None if parents is None else path, ids)


def target_logprobs(ids_G: Tensor, parents: Sequence[int], logits_TV: Tensor) -> list[float]:
    """log p of each proposed token after its parent, at temperature 1 over the whole vocabulary."""
    return _read(ids_G, parents, logits_TV)[2]


def _read(ids_G: Tensor, parents: Sequence[int], logits_TV: Tensor) -> tuple[list[int], list[int], list[float]]:
    """The proposed ids, the target's likeliest at every row, and log p of the proposed: one wait for the device.

    As float64, in which ids are exact.
    """
    rows_G = send(list(parents), logits_TV.device) + 1
    chosen_G = logits_TV.log_softmax(-1)[rows_G, ids_G]
    parts = (ids_G.double(), logits_TV.argmax(-1).double(), chosen_G.double())
    together: list[float] = torch.cat(parts).tolist()
    drafted, rows = len(ids_G), len(logits_TV)
    ids, best = ([int(i) for i in part] for part in (together[:drafted], together[drafted : drafted + rows]))
    return ids, best, together[drafted + rows :]


def _joint(logprobs: Sequence[float], parents: Sequence[int]) -> list[float]:
    """Logarithm of each token's probability together with all tokens above it."""
    sums: list[float] = []
    for logprob, parent in zip(logprobs, parents, strict=True):
        sums.append(logprob + (sums[parent] if parent >= 0 else 0.0))
    return sums
