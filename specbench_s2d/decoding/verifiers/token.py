"""The token rule of speculative sampling (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, 2302.01318)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from specbench_s2d.decoding.sampling import Sampler, residual
from specbench_s2d.decoding.tree import children
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict


class TokenVerifier:
    """Accepts tokens one by one, so that the output is distributed as the target's own: lossless."""

    lossy: ClassVar[bool] = False

    class Options(BaseOptions):
        """None."""

    def __init__(self, options: TokenVerifier.Options) -> None:
        del options

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        if proposal.parents is not None:
            return _walk(proposal, proposal.parents, logits_TV, sampler)
        if sampler.greedy:
            return _longest_argmax_prefix(proposal.ids_G, logits_TV)
        return _speculative_sampling(proposal, logits_TV, sampler)


def _longest_argmax_prefix(ids_G: Tensor, logits_TV: Tensor) -> Verdict:
    """Accept while x_i = argmax p_i; then argmax p at the mismatch, or after the last token (the bonus)."""
    best = logits_TV.argmax(-1).tolist()
    accepted = 0
    for proposed in ids_G.tolist():
        if proposed != best[accepted]:
            break
        accepted += 1
    return Verdict(accepted, best[accepted])


def _speculative_sampling(proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
    """Accept x_i with min(1, p_i(x_i) / q_i(x_i)); at the first rejection draw from normalise(max(0, p_i - q_i)).

    A greedy draft's q is one-hot: x_i is accepted with p_i(x_i), and the residual is p_i without x_i.
    """
    p_TV = sampler.probs(logits_TV)
    ids_G1 = proposal.ids_G[:, None].to(logits_TV.device)
    drafted = len(proposal.ids_G)
    p_G = p_TV[:drafted].gather(1, ids_G1)[:, 0]
    q_GV = torch.zeros_like(p_TV[:drafted]).scatter_(1, ids_G1, 1.0) if proposal.q_GV is None else proposal.q_GV
    q_G = q_GV.gather(1, ids_G1)[:, 0]
    # u < p / q, written without the division.
    passed = (sampler.uniforms(drafted, logits_TV.device) * q_G < p_G).tolist()
    accepted = passed.index(False) if False in passed else drafted
    left_V = p_TV[accepted] if accepted == drafted else residual(p_TV[accepted], q_GV[accepted])
    return Verdict(accepted, int(sampler.draw(left_V)))


def _walk(proposal: Proposal, parents: list[int], logits_TV: Tensor, sampler: Sampler) -> Verdict:
    """From the root, step to an accepted child until there is none; then the target's own next token."""
    below, ids = children(parents), proposal.ids_G.tolist()
    path: list[int] = []
    node = -1
    while True:
        choices = below.get(node, [])
        tokens = [ids[child] for child in choices]
        chosen, next_id = _choose(tokens, logits_TV[node + 1], sampler)
        if chosen is None:
            return Verdict(len(path), next_id, path)
        node = choices[chosen]
        path.append(node)


def _choose(tokens: list[int], logits_V: Tensor, sampler: Sampler) -> tuple[int | None, int]:
    """(index of the accepted one of sibling `tokens`, or None; then the next token that the target chose instead).

    Greedy: the sibling that is the target's argmax. Sampling: the siblings were fixed by the draft, not drawn, so one
    after the other is accepted with p(x) / (1 - sum of p of those rejected before it), and past the last the draw is
    from p without them. Both are one draw from p: accept the sibling that it is, if it is one.
    """
    next_id = sampler.pick(logits_V)
    return (tokens.index(next_id), next_id) if next_id in tokens else (None, next_id)
