"""The beam drafter of MJSD: the draft's joint likelihood (Qin et al. 2024, arXiv 2407.09722, algorithm 1).

Shapes: `W` beams, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from specbench_s2d.decoding.beams import Beams, Cells, Choice, beam_search, best_places, likeliest, search_passes
from specbench_s2d.decoding.drafters.chain import Exit
from specbench_s2d.decoding.gamma import DraftLength, Gamma, chain_passes, draft_length, longest_draft
from specbench_s2d.decoding.sampling import Sampler, probabilities
from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.exit_view import ExitView, check_exit
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.transfer import send_tensor, to_device


class BeamDrafter:
    """Proposes the gamma tokens that beam search over the draft finds most likely together.

    The beams go by the draft's likelihoods at temperature 1, whatever the run's temperature; with a draft temperature
    they are drawn instead. With several candidates the best beams are proposed as one tree, shared beginnings once.
    Near the context's end the beams are fewer.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "plain"

    class Options(BaseOptions):
        """`beams`: width of the search. `candidates`: how many of the beams are verified, in one pass.

        `draft_temperature`, `draft_top_k`, `draft_top_p`: draw each beam's next token so. Temperature 0 takes the
        likeliest beams; it is no limit of low ones, at which every beam keeps its own likeliest token alone.
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
        self._reader, self._options = ExitView(draft, options.exit), options

    @staticmethod
    def check_draft(options: BeamDrafter.Options, draft: HasExits) -> None:
        """Raise `ModelError` for an exit that the draft cannot have."""
        check_exit(draft, options.exit)

    @staticmethod
    def draft_passes(options: BeamDrafter.Options, draft: HasExits) -> list[PassKind]:
        """The search, over the longest proposal."""
        o, drawn = options, options.draft_temperature > 0
        return search_passes(o.exit, draft.depth, longest_draft(o.gamma), o.beams, o.candidates, drawn)

    @staticmethod
    def target_passes(options: BeamDrafter.Options) -> list[PassKind]:
        """All tokens of the candidates, and the last one of the context."""
        (chain,), tokens = chain_passes(options.gamma), longest_draft(options.gamma) * options.candidates
        if options.candidates == 1:
            return [chain]
        return [PassKind(tokens + 1, seen=tokens + 1, least=chain.least)]

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._length: DraftLength = draft_length(self._options.gamma)
        o = self._options
        by_likelihood = partial(likeliest, prepared=(o.candidates, o.beams))
        self._choose: Choice = self._drawing(sampler) if o.draft_temperature else by_likelihood
        self._reader.prefill(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        reader, seen, self._context = self._reader, self._reader.length, len(context)
        depth = min(self._length.next(), room)
        width = max(1, min(self._options.beams, room // depth))
        # Of drawn beams the best is known only when all are finished.
        finished = width if self._options.draft_temperature else min(width, self._options.candidates)
        beams = beam_search(reader, context[seen:], len(context), depth, width, finished, self._choose)
        self._beams, self._nodes = beams, _tree(beams, self._options.candidates)
        ids, device = [beams.ids[level][place] for level, place in self._nodes], reader.model.device
        logprobs = [beams.logprobs[level][place] for level, place in self._nodes]
        tree = Tree.of(_parents(beams, self._nodes), device) if self._options.candidates > 1 else None
        return Proposal(
            to_device(ids, device),
            logprobs_G=send_tensor(torch.tensor(logprobs, dtype=torch.float64), device),
            exit_depths=[self._options.exit] * len(ids) if self._options.exit else [],
            tree=tree,
            draft_layers=reader.layers * (reader.length - seen),
        )

    def commit(self, committed: int, verdict: Verdict) -> None:
        """Keep the states of the accepted tokens that the draft has run: all but those of the last level."""
        places = [self._nodes[node][1] for node in verdict.accepted_path]
        self._reader.model.keep_path(self._beams.rows(places), self._context)
        self._length.learn(verdict.accepted, self._beams.depth)

    def _drawing(self, sampler: Sampler) -> Choice:
        """Cells drawn without replacement, each with its beam's joint likelihood times the drawn token's probability.

        Taking the highest after adding Gumbel noise to the logarithms is such a draw (Kool et al. 2019, 1903.06059).
        """
        o = self._options

        def draw(reader: ExitView, ids_BT: Tensor, mask_WM: Tensor | None, above_W: Tensor | None, count: int) -> Cells:
            logits_WV = reader.next_logits(ids_BT) if mask_WM is None else reader.logits(ids_BT, mask_WM)
            joint_WV = logits_WV.log_softmax(-1)
            if above_W is not None:
                joint_WV += above_W[:, None]
            total_W1 = joint_WV.logsumexp(-1, keepdim=True)  # the beam's own likelihood: its tokens' sum to it
            weights_WV = probabilities(joint_WV, o.draft_temperature, o.draft_top_k, o.draft_top_p).log() + total_W1
            uniform_N = sampler.uniforms(weights_WV.numel(), weights_WV.device)
            noisy_N = weights_WV.flatten() - (-uniform_N.clamp_min(1e-20).log()).log()
            cells_W = best_places(noisy_N, count)
            cells_W = cells_W[noisy_N[cells_W] > float("-inf")]  # waits for the device, to know how many there are
            vocabulary = joint_WV.shape[1]
            return Cells(cells_W % vocabulary, cells_W // vocabulary, joint_WV.flatten()[cells_W])

        return draw


def _tree(beams: Beams, candidates: int) -> list[tuple[int, int]]:
    """(level, place) of every token of the best beams, each once, level by level, the best beam's first."""
    paths = [beams.path(place) for place in beams.best[:candidates]]
    return [(level, place) for level in range(beams.depth) for place in dict.fromkeys(path[level] for path in paths)]


def _parents(beams: Beams, nodes: Sequence[tuple[int, int]]) -> list[int]:
    order = {node: i for i, node in enumerate(nodes)}
    return [order[level - 1, beams.parents[level][place]] if level else -1 for level, place in nodes]
