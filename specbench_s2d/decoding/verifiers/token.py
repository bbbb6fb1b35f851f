"""The token rule of speculative sampling (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, 2302.01318)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from specbench_s2d.decoding.sampling import Sampler, residual
from specbench_s2d.decoding.tree import children
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict, fetch


class TokenVerifier:
    """Accepts tokens one by one, so that the output has the target's own distribution: lossless."""

    lossy: ClassVar[bool] = False
    needs_likelihoods: ClassVar[bool] = False

    class Options(BaseOptions):
        """No options."""

    def __init__(self, options: TokenVerifier.Options) -> None:
        del options

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        if proposal.tree is not None:
            return _tree_walk(proposal, logits_TV, sampler)
        if sampler.greedy:
            return _longest_argmax_prefix(proposal, logits_TV)
        return _speculative_sampling(proposal, logits_TV, sampler)


def _longest_argmax_prefix(proposal: Proposal, logits_TV: Tensor) -> Verdict:
    """Accept while x_i = argmax p_i; the next token is argmax p at the mismatch, or after the last token (the
    bonus)."""
    drafted, (best,) = fetch(proposal, logits_TV.argmax(-1))
    accepted = next((i for i, token in enumerate(drafted.ids) if token != best[i]), len(drafted.ids))
    return Verdict(accepted, int(best[accepted]), drafted=drafted)


def _speculative_sampling(proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
    """Accept x_i with probability min(1, p_i(x_i) / q_i(x_i)); at the first rejection draw from
    normalise(max(0, p_i - q_i)).

    The q of a greedy draft is one-hot: x_i is accepted with probability p_i(x_i), and the residual is p_i without x_i.
    After the last token q is 0, so the residual is p. Everything is computed on the device and read in one wait.
    """
    p_TV, ids_G = sampler.probs(logits_TV), proposal.ids_G
    drafted = len(ids_G)
    q_TV = torch.zeros_like(p_TV)
    if proposal.q_GV is None:
        q_TV[:drafted].scatter_(1, ids_G[:, None], 1.0)
    else:
        q_TV[:drafted] = proposal.q_GV
    p_G, q_G = (x_TV[:drafted].gather(1, ids_G[:, None])[:, 0] for x_TV in (p_TV, q_TV))
    # u < p / q, written without the division.
    accepted_G = sampler.uniforms(drafted, logits_TV.device) * q_G < p_G
    accepted_1 = accepted_G.long().cumprod(0).sum(0, keepdim=True)
    left_V = residual(p_TV.index_select(0, accepted_1)[0], q_TV.index_select(0, accepted_1)[0])
    read, ((accepted,), (next_id,)) = fetch(proposal, accepted_1, sampler.draw(left_V))
    return Verdict(int(accepted), int(next_id), drafted=read)


def _tree_walk(proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
    """From the root, step to an accepted child until there is none; then emit the target's own next token.

    Children are fixed by the draft's top-k, not drawn: child after child is accepted with probability p(x) / (1 - sum
    of p of its rejected siblings), and where none is, the next token is drawn from p without them. This is the same as
    one draw from p, accepted where it is a child. So one token is drawn at every node at once, and the walk follows
    them.
    """
    drafted, (chosen,) = fetch(proposal, sampler.pick_rows(logits_TV))
    below = children(drafted.all_parents)
    path: list[int] = []
    node = -1
    while True:
        next_id = chosen[node + 1]
        accepted = next((child for child in below.get(node, []) if drafted.ids[child] == next_id), None)
        if accepted is None:
            return Verdict(len(path), int(next_id), path, drafted)
        node = accepted
        path.append(node)
