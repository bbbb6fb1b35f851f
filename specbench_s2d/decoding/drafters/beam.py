"""The beam drafter of MJSD: the draft's joint likelihood (Qin et al. 2024, arXiv 2407.09722, algorithm 1).

Shapes: `W` beams, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from specbench_s2d.decoding.beams import Beams, Choice, beam_search, likeliest
from specbench_s2d.decoding.drafters.chain import Exit
from specbench_s2d.decoding.gamma import DraftLength, Gamma, draft_length
from specbench_s2d.decoding.sampling import Sampler, probabilities
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.exits import Layered
from specbench_s2d.models.reader import Reader, check_exit
from specbench_s2d.models.sending import send


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
        self._reader, self._options = Reader(draft, options.exit), options

    @staticmethod
    def check_draft(options: BeamDrafter.Options, draft: Layered) -> None:
        """Raise `ModelError` for an exit that the draft cannot have."""
        check_exit(draft, options.exit)

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._length: DraftLength = draft_length(self._options.gamma)
        self._choose: Choice = self._drawing(sampler) if self._options.draft_temperature else likeliest
        self._reader.prefill(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        reader, seen, self._context = self._reader, self._reader.length, len(context)
        depth = min(self._length.next(), room)
        width = max(1, min(self._options.beams, room // depth))
        # Of drawn beams the best is known only when all are finished.
        finished = width if self._options.draft_temperature else min(width, self._options.candidates)
        beams = beam_search(reader, context[seen:], len(context), depth, width, finished, self._choose)
        self._beams, self._nodes = beams, _tree(beams, self._options.candidates)
        ids = [beams.ids[level][place] for level, place in self._nodes]
        return Proposal(
            send(ids, reader.model.device),
            logprobs=[beams.logprobs[level][place] for level, place in self._nodes],
            exit_depths=[self._options.exit] * len(ids) if self._options.exit else [],
            parents=_parents(beams, self._nodes) if self._options.candidates > 1 else None,
            draft_layers=reader.layers * (reader.length - seen),
        )

    def settle(self, committed: int, verdict: Verdict) -> None:
        """Keep the states of the accepted tokens that the draft has run: all but those of the last level."""
        path = range(verdict.accepted) if verdict.path is None else verdict.path
        places = [self._nodes[node][1] for node in path]
        self._reader.model.keep(self._beams.rows(places), self._context)
        self._length.learn(verdict.accepted, self._beams.depth)

    def _drawing(self, sampler: Sampler) -> Choice:
        """Cells drawn without replacement, each with its beam's joint likelihood times the drawn token's probability.

        Taking the highest after adding Gumbel noise to the logarithms is such a draw (Kool et al. 2019, 1903.06059).
        """
        o = self._options

        def draw(joint_WV: Tensor, count: int) -> Tensor:
            total_W1 = joint_WV.logsumexp(-1, keepdim=True)  # the beam's own likelihood: its tokens' sum to it
            weights_WV = probabilities(joint_WV, o.draft_temperature, o.draft_top_k, o.draft_top_p).log() + total_W1
            uniform_N = sampler.uniforms(weights_WV.numel(), weights_WV.device)
            noisy_WV = weights_WV - (-uniform_N.clamp_min(1e-20).log()).log().view_as(weights_WV)
            cells_W = likeliest(noisy_WV, count)
            return cells_W[noisy_WV.flatten()[cells_W] > float("-inf")]

        return draw


def _tree(beams: Beams, candidates: int) -> list[tuple[int, int]]:
    """(level, place) of every token of the best beams, each once, level by level, the best beam's first."""
    paths = [beams.path(place) for place in beams.best[:candidates]]
    return [(level, place) for level in range(beams.depth) for place in dict.fromkeys(path[level] for path in paths)]


def _parents(beams: Beams, nodes: Sequence[tuple[int, int]]) -> list[int]:
    order = {node: i for i, node in enumerate(nodes)}
    return [order[level - 1, beams.parents[level][place]] if level else -1 for level, place in nodes]
