"""The drafter of `s2d-auto`: reads each token deeper, or stops, by measured costs (`stopping_value.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from specbench_s2d.decoding.calibration import Calibration
from specbench_s2d.decoding.costs import OnlineCosts, RunRate, measure_costs
from specbench_s2d.decoding.drafters.sorted import ExitDrafter, SortedOptions
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.stopping_value import StoppingValue
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.exits import HasExits, resolve_exits
from specbench_s2d.models.nested import MANY, NestedDraft, stage_passes
from specbench_s2d.models.pass_timer import Now
from specbench_s2d.models.transfer import to_device

LEARNING_LENGTH, LEARNING_DRAFTS, LEARNING_TOKENS = 4, 100, 24
"""The first drafts have at least this length and are proposed uncut: at most so many drafts, and only until so many
tokens of each draft position have been judged."""
EXPLORE_EVERY = 128
"""A token is read again after so many steps without a draft; the first step of a generation counts as so many."""
BASELINE_PROBE_EVERY, BASELINE_PROBE_STEPS = 96, 5
"""After so many steps, so many without a draft, to observe the cost of the target alone."""
REFRESH_TOKENS = 8
"""The values of drafting are recomputed each time so many more tokens have been judged."""


@dataclass
class _Token:
    """A drafted token: (stage, confidence, id) at each exit that it was read at."""

    position: int
    reads: list[tuple[int, float, int]] = field(default_factory=list)

    @property
    def id(self) -> int:
        return self.reads[-1][2]

    @property
    def confidence(self) -> float:
        return self.reads[-1][1]


class AutoDrafter:
    """Chooses exits and draft length by measured pass costs and learnt acceptance; nothing to tune.

    Costs are measured before the first generation (`prepare`) and updated by every step; acceptance is learnt from the
    verdicts. Both are kept for the life of the decoder. Rules, in order:
    - `Calibration` holds the priors, and the optimism where little is known.
    - The first drafts are proposed uncut (`LEARNING_LENGTH`), so that a few early rejections do not decide.
    - Later a token is read where `StoppingValue` is positive, and proposed where that outweighs a wider target pass.
    - Where no token is worth reading, one is read now and then all the same (`EXPLORE_EVERY`).
    - Five steps in a hundred have no draft (`BASELINE_PROBE_EVERY`), to observe the cost of the target alone.

    The drafts depend on measured times. The ids do not at temperature 0; when sampling, their distribution does not,
    but the same seed may draw other ids.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "nested"
    has_likelihoods: ClassVar[bool] = True

    class Options(SortedOptions):
        """`gamma`: the longest draft."""

        gamma: Annotated[int, Field(ge=1, description="Longest draft; it stops earlier where that pays.")] = 8

    def __init__(self, draft: LanguageModel, options: AutoDrafter.Options, now: Now = perf_counter) -> None:
        self._nested, self._options, self._now = NestedDraft(draft, options.exits), options, now
        self._device = draft.device
        self._costs: OnlineCosts | None = None
        self.calibration = Calibration(len(self._nested.exits))
        self._rate = RunRate(now)
        self._learning_drafts, self._steps = 0, 0

    check_draft = staticmethod(ExitDrafter.check_draft)

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """Measure pass costs with this target, once; a fraction of a second on small models."""
        if self._costs is None:
            self._costs = measure_costs(target, self._nested, prompt_ids, self._options.gamma + 1, self._now)

    @property
    def costs(self) -> OnlineCosts:
        assert self._costs is not None
        return self._costs

    @property
    def rate(self) -> float:
        """The run's tokens per second so far, at the costs' level 1; at least that of the target alone."""
        return self._rate.per_second(self.costs)

    @staticmethod
    def draft_passes(options: SortedOptions, draft: HasExits) -> list[PassKind]:
        """Passes of up to `MANY` new tokens: every step without a draft leaves one more that the draft has not run."""
        return stage_passes(resolve_exits(draft, options.exits), rows=MANY)

    @staticmethod
    def target_passes(options: AutoDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and the longest proposal."""
        return [PassKind(options.gamma + 1)]

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._nested.prefill(prompt_ids)
        self._rate.start()
        self._unexplored_steps, self._judged, self._idle_steps = EXPLORE_EVERY, REFRESH_TOKENS, 0

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        self._rate.lap(self.costs.level)
        if self._judged >= REFRESH_TOKENS:
            self._value = StoppingValue(self.rate, self.costs, self.calibration, self._options.gamma)
            self._judged = 0
        before = self._nested.layer_runs
        self._drafted: list[_Token] = []
        self._dropped: _Token | None = None
        if not self._is_baseline_probe():
            self._draft(context, min(self._options.gamma, room))
        tokens = self._drafted
        self._proposed_at = self._now()
        values = [[float(t.id) for t in tokens], [math.log(t.confidence) for t in tokens]]
        ids_G, logprobs_G = to_device(torch.tensor(values), self._device)  # one copy; ids below 2^24 are exact
        return Proposal(
            ids_G.long(),
            logprobs_G=logprobs_G,
            exit_depths=[self._nested.exits[t.reads[-1][0]] for t in tokens],
            draft_layers=self._nested.layer_runs - before,
        )

    def _draft(self, context: Sequence[int], longest: int) -> None:
        """Read tokens while that has a positive value; one whose proposal has none is dropped, and ends the draft."""
        unseen, survival = context[self._nested.length :], 1.0
        few = self.calibration.fewest_observations(longest) < LEARNING_TOKENS
        learning = self._learning_drafts < LEARNING_DRAFTS and few
        self._learning_drafts += learning
        for position in range(1, longest + 1):
            if not (self._value.of_reading(position, survival) > 0.0 or self._must_explore(position, learning)):
                return
            self._unexplored_steps = 0
            token = _Token(position)
            value = self._read(token, unseen, survival)
            if value <= 0.0 and not (learning and position <= LEARNING_LENGTH):
                self._dropped = token
                return
            self._drafted.append(token)
            survival *= self._acceptance(token)
            unseen = [token.id]

    def _read(self, token: _Token, unseen: Sequence[int], survival: float) -> float:
        """Read one token, exit after exit while that pays; returns the value of proposing it."""
        nested, last, cold = self._nested, len(self._nested.exits) - 1, token.position == 1
        for stage in range(last + 1):
            positions = nested.waiting(stage) if stage else len(unseen)
            began = self._now()
            (logprob,), (best,) = nested.read(stage, unseen).packed_2RK[:, 0].tolist()
            if math.isnan(logprob):
                raise FloatingPointError(token.position - 1)
            self.costs.observe_stage(stage, positions, cold, self._now() - began)
            token.reads.append((stage, math.exp(logprob), int(best)))
            acceptance = self._acceptance(token)
            here = self._value.of_proposing(token.position, survival, acceptance)
            if stage == last:
                break
            deeper = min(1.0, acceptance + self.calibration.gain(stage, token.confidence))
            price = self._value.price(self.costs.stage(stage + 1, nested.waiting(stage + 1), cold))
            if self._value.of_proposing(token.position, survival, deeper) - price <= max(here, 0.0):
                break
        self.calibration.observe_confidence(token.position, token.reads[0][1])
        return here

    def _acceptance(self, token: _Token) -> float:
        stage, confidence, _ = token.reads[-1]
        return self.calibration.acceptance(stage, token.position, confidence)

    def _is_baseline_probe(self) -> bool:
        """Whether this step is taken without a draft, to observe the cost of the target alone."""
        self._steps += 1
        return self._steps % (BASELINE_PROBE_EVERY + BASELINE_PROBE_STEPS) >= BASELINE_PROBE_EVERY

    def _must_explore(self, position: int, learning: bool) -> bool:
        """Whether a token without a positive value is read all the same, to learn its acceptance."""
        if learning:
            return position <= LEARNING_LENGTH
        self._unexplored_steps += position == 1
        return position == 1 and self._unexplored_steps > EXPLORE_EVERY

    def commit(self, committed: int, verdict: Verdict) -> None:
        read_nothing = not self._drafted and self._dropped is None
        # A pass soon after a draft is slower, so the first two idle steps are not taken as the target's cost alone.
        if self._drafted or (read_nothing and self._idle_steps >= 2):
            self.costs.observe_verify(len(self._drafted) + 1, self._now() - self._proposed_at)
        self._idle_steps = self._idle_steps + 1 if read_nothing else 0
        self._nested.rollback(committed)
        self._learn(verdict)
        self._rate.emitted(verdict.accepted + 1)

    def _learn(self, verdict: Verdict) -> None:
        """Record the acceptance of every token that was judged, and of a dropped one that the target's token
        follows."""
        judged = self._drafted[: verdict.accepted + 1]
        if self._dropped is not None and verdict.accepted == len(self._drafted):
            judged = [*self._drafted, self._dropped]
        self._judged += len(judged)
        for i, token in enumerate(judged):
            right = token.id if i < verdict.accepted else verdict.next_id
            for stage, confidence, guess in token.reads:
                self.calibration.observe(stage, token.position, confidence, guess == right)
            for (stage, confidence, guess), (_, _, deeper) in pairwise(token.reads):
                self.calibration.observe_deeper(stage, confidence, guess == right, deeper == right)

    def facts(self) -> dict[str, Any]:
        """Pass costs, calibration and rate, for the manifest; empty before the first generation."""
        if self._costs is None:
            return {}
        return {
            "exits": list(self._nested.exits),
            "costs": self.costs.facts(),
            "calibration": self.calibration.facts(),
            "tokens_per_s": self.rate / self.costs.level,
        }
