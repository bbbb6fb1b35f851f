"""Typical acceptance, Medusa's lossy rule (Cai et al. 2024, arXiv 2401.10774, section 3.3)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import path_to
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict, fetch


class TypicalVerifier:
    """Accepts tokens that the target finds likely enough for its own uncertainty, whatever the draft says: lossy.

    A token passes where p(x) > min(epsilon, delta * exp(-H(p))), H(p) the entropy of the target's distribution there in
    nats; the target's likeliest token always does. The longest path of tokens that pass wins, ties by its likelihood;
    the next token is the target's likeliest after it, at any temperature. p is taken at the run's settings, and at
    temperature 1 where the run is greedy: at temperature 0 it would be 0 or 1, and the rule the token rule's.
    """

    lossy: ClassVar[bool] = True
    needs_likelihoods: ClassVar[bool] = False

    class Options(BaseOptions):
        """`epsilon`, `delta`: the defaults are those of the authors' code."""

        epsilon: Annotated[float, Field(ge=0, lt=1, description="A token this likely always passes.")] = 0.09
        delta: Annotated[float, Field(ge=0, lt=1, description="Of exp(-entropy), what a token must exceed.")] = 0.3

    def __init__(self, options: TypicalVerifier.Options) -> None:
        self._options = options

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        p_TV = logits_TV.softmax(-1) if sampler.greedy else sampler.probs(logits_TV)
        entropy_T = torch.special.entr(p_TV).sum(-1)
        least_T = (self._options.delta * (-entropy_T).exp()).clamp(max=self._options.epsilon)
        rows_G = torch.arange(len(proposal.ids_G), device=p_TV.device)
        if proposal.tree is not None:
            rows_G = proposal.tree.parents_N + 1
        p_G = p_TV[rows_G, proposal.ids_G]
        wanted = (p_TV.argmax(-1), p_G.log(), (p_G > least_T[rows_G]).float())
        drafted, (best, logprobs, passes) = fetch(proposal, *wanted)
        parents, levels = drafted.all_parents, drafted.levels
        joint = [0.0] * (len(parents) + 1)  # of the path to each node, the context last (-1)
        last, accepted = -1, {-1}
        for node, parent in enumerate(parents):
            if not passes[node] or parent not in accepted:
                continue
            accepted.add(node)
            joint[node] = joint[parent] + logprobs[node]
            if last < 0 or (levels[node], joint[node]) > (levels[last], joint[last]):
                last = node
        path = path_to(last, parents)
        return Verdict(len(path), int(best[last + 1]), None if proposal.tree is None else path, drafted)
