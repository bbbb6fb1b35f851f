"""The beam drafter of MJSD: beam search by the draft's joint likelihood (Qin et al. 2024, arXiv 2407.09722, alg. 1).

Shapes: `W` beams, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from specbench_s2d.decoding.beams import (
    Beams,
    ChooseContinuations,
    Continuations,
    beam_search,
    best_continuations,
    best_indices,
    search_passes,
)
from specbench_s2d.decoding.drafters.chain import ChainDrafter, Exit
from specbench_s2d.decoding.gamma import DraftLength, Gamma, chain_passes, draft_length, longest_draft
from specbench_s2d.decoding.sampling import Sampler, probabilities
from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.exit_view import ExitView
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.transfer import to_device


class BeamDrafter:
    """Proposes the gamma tokens that beam search over the draft finds most likely together.

    Beams are ranked by the draft's likelihoods at temperature 1, whatever the run's temperature; with a draft
    temperature they are drawn instead. Several candidates are proposed as one tree, in which shared prefixes occur
    once. Near the end of the context window there are fewer beams.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "plain"
    has_likelihoods: ClassVar[bool] = True

    class Options(BaseOptions):
        """`beams`: width of the search. `candidates`: how many of the beams are verified, in one pass.

        `draft_temperature`, `draft_top_k`, `draft_top_p`: how each beam's next token is drawn. Temperature 0 takes the
        likeliest beams; this is not the limit of low temperatures, at which every beam keeps only its own best token.
        """

        gamma: Annotated[Gamma, Field(description="Draft length: a number, or heuristic (Spec-Bench's schedule).")] = 4
        beams: Annotated[int, Field(ge=1, description="Width of the beam search.")] = 8
        candidates: Annotated[int, Field(ge=1, description="Beams verified in one pass, at most all.")] = 1
        exit: Exit = None
        draft_temperature: Annotated[
            float, Field(ge=0, allow_inf_nan=False, description="Draw the beams at this temperature; 0: the likeliest.")
        ] = 0.0
        draft_top_k: Annotated[int, Field(ge=0, description="Draw among the k best tokens; 0: no limit.")] = 0
        draft_top_p: Annotated[
            float, Field(gt=0, le=1, description="Draw among the best tokens of this total probability.")
        ] = 1.0

        @field_validator("candidates")
        @classmethod
        def _at_most_all(cls, candidates: int, info: ValidationInfo) -> int:
            beams = info.data.get("beams", candidates)
            if candidates > beams:
                raise ValueError(f"at most as many as there are beams ({beams})")
            return candidates

    def __init__(self, draft: LanguageModel, options: BeamDrafter.Options) -> None:
        self._view, self._options = ExitView(draft, options.exit), options

    check_draft = staticmethod(ChainDrafter.check_draft)

    @staticmethod
    def draft_passes(options: BeamDrafter.Options, draft: HasExits) -> list[PassKind]:
        """The passes of the search for the longest proposal."""
        o, drawn = options, options.draft_temperature > 0
        return search_passes(o.exit, draft.depth, longest_draft(o.gamma), o.beams, o.candidates, drawn)

    @staticmethod
    def target_passes(options: BeamDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and all tokens of the candidates."""
        (chain,), tokens = chain_passes(options.gamma), longest_draft(options.gamma) * options.candidates
        if options.candidates == 1:
            return [chain]
        return [PassKind(tokens + 1, seen=tokens + 1, least=chain.least)]

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._length: DraftLength = draft_length(self._options.gamma)
        o = self._options
        by_likelihood = partial(best_continuations, prepared=(o.candidates, o.beams))
        self._choose: ChooseContinuations = self._drawing(sampler) if o.draft_temperature else by_likelihood
        self._view.prefill(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        view, seen, self._context = self._view, self._view.length, len(context)
        depth = min(self._length.next(), room)
        width = max(1, min(self._options.beams, room // depth))
        # The best of drawn beams is known only when all are finished.
        finished = width if self._options.draft_temperature else min(width, self._options.candidates)
        beams = beam_search(view, context[seen:], depth, width, finished, self._choose)
        self._beams, self._nodes = beams, _nodes(beams, self._options.candidates)
        ids, device = [beams.ids[level][index] for level, index in self._nodes], view.model.device
        logprobs = [beams.logprobs[level][index] for level, index in self._nodes]
        tree = Tree.of(_parents(beams, self._nodes), device) if self._options.candidates > 1 else None
        return Proposal(
            to_device(ids, device),
            logprobs_G=to_device(torch.tensor(logprobs, dtype=torch.float64), device),
            exit_depths=[self._options.exit] * len(ids) if self._options.exit else [],
            tree=tree,
            draft_layers=view.layers * (view.length - seen),
        )

    def commit(self, committed: int, verdict: Verdict) -> None:
        """Keep the accepted tokens in the draft's cache, except one of the last level, which the draft has not run."""
        path = [self._nodes[node][1] for node in verdict.accepted_path]
        self._view.model.keep_path(self._beams.rows(path), self._context)
        self._length.learn(verdict.accepted, self._beams.depth)

    def _drawing(self, sampler: Sampler) -> ChooseContinuations:
        """Draw continuations without replacement, with weights: the beam's joint likelihood times the token's
        probability.

        The highest log-weights after adding Gumbel noise are such a draw (Kool et al. 2019, arXiv 1903.06059).
        """
        o = self._options

        def draw(
            view: ExitView, ids_BT: Tensor, mask_WM: Tensor | None, beams_W: Tensor | None, count: int
        ) -> Continuations:
            logits_WV = view.next_logits(ids_BT) if mask_WM is None else view.logits(ids_BT, mask_WM)
            joint_WV = logits_WV.log_softmax(-1)
            if beams_W is not None:
                joint_WV += beams_W[:, None]
            total_W1 = joint_WV.logsumexp(-1, keepdim=True)  # the beam's own likelihood, the sum over its tokens
            weights_WV = probabilities(joint_WV, o.draft_temperature, o.draft_top_k, o.draft_top_p).log() + total_W1
            uniform_N = sampler.uniforms(weights_WV.numel(), weights_WV.device)
            noisy_N = weights_WV.flatten() - (-uniform_N.clamp_min(1e-20).log()).log()
            chosen_W = best_indices(noisy_N, count)
            chosen_W = chosen_W[noisy_N[chosen_W] > float("-inf")]  # waits for the device to learn how many there are
            vocabulary = joint_WV.shape[1]
            return Continuations(chosen_W % vocabulary, chosen_W // vocabulary, joint_WV.flatten()[chosen_W])

        return draw


def _nodes(beams: Beams, candidates: int) -> list[tuple[int, int]]:
    """(level, index) of every token of the best beams, each once, level by level, the best beam's first."""
    paths = [beams.path(index) for index in beams.best[:candidates]]
    return [(level, index) for level in range(beams.depth) for index in dict.fromkeys(path[level] for path in paths)]


def _parents(beams: Beams, nodes: Sequence[tuple[int, int]]) -> list[int]:
    order = {node: i for i, node in enumerate(nodes)}
    return [order[level - 1, beams.parents[level][index]] if level else -1 for level, index in nodes]
