"""MJGD: multi-token joint greedy decoding (Qin et al. 2024, arXiv 2407.09722, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field

from specbench_s2d.decoding.beams import beam_search, best_continuations, search_passes
from specbench_s2d.decoding.clock import Clock
from specbench_s2d.decoding.decoder import Decoder
from specbench_s2d.decoding.loop import Limits, decode
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Generation, Marks, Step
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.exit_view import ExitView


class JointGreedy(Decoder):
    """Multi-token joint greedy decoding: k tokens a step, likeliest together under the target: lossy.

    A step is a beam search of k target passes; k = 1 is greedy decoding. Deterministic at any temperature. The last
    block is as long as what is left; near the end of the context window there are fewer beams.
    """

    lossy: ClassVar[bool] = True

    class Options(BaseOptions):
        """`k`: tokens per step. `beams`: width of the search; more than V^(k-1) are of no use."""

        k: Annotated[int, Field(ge=1, description="Tokens chosen together per step.")] = 3
        beams: Annotated[int, Field(ge=1, description="Width of the beam search over the target.")] = 8

    options: JointGreedy.Options

    @classmethod
    def target_passes(cls, options: BaseOptions) -> list[PassKind]:
        """The passes of the search, for blocks of k tokens and for a shorter last block."""
        assert isinstance(options, JointGreedy.Options)
        return search_passes(None, 0, options.k, options.beams, 1, unseen=1)

    def _run(self, prompt_ids: Sequence[int], limits: Limits, sampler: Sampler) -> Generation:
        greedy = Sampler(0.0, 0, 1.0, 0, self.target.device)
        return decode(self.target, None, _Blocks(self.target, self.options), prompt_ids, limits, greedy)


class _Blocks:
    """One step: the block of k tokens that maximises p(x_1..x_k | context)."""

    observer = None
    reader = None

    def __init__(self, target: LanguageModel, options: JointGreedy.Options) -> None:
        self._view, self._options = ExitView(target), options
        self._choose = partial(best_continuations, prepared=(1, options.beams))

    def start(self, prompt_ids: Sequence[int], sampler: Sampler, clock: Clock) -> None:
        self._clock = clock

    def step(self, context: Sequence[int], room: int, left: int) -> Step:
        began = self._clock.mark()
        length = min(self._options.k, left)
        width = max(1, min(self._options.beams, room // length))
        beams = beam_search(self._view, context[self._view.length :], length, width, 1, self._choose)
        path = beams.path(beams.best[0])
        self._view.model.keep_path(beams.rows(path), len(context))
        block = [beams.ids[level][index] for level, index in enumerate(path)]
        return Step([], 0, block, passes=length, marks=Marks(began, began, self._clock.mark()))
