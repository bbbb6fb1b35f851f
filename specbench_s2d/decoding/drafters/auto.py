"""The drafter of `s2d-auto`: at each token it exits, goes deeper, or stops, whichever is worth most (`worth.py`)."""

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
from specbench_s2d.decoding.costs import PassCosts, measure_costs
from specbench_s2d.decoding.drafters.sorted import SortedOptions
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.stopping_value import StoppingValue
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.exits import HasExits, resolve_exits
from specbench_s2d.models.nested import MANY, NestedDraft, stage_passes
from specbench_s2d.models.transfer import send_tensor

FIRST_LENGTH, FIRST_DRAFTS, ENOUGH = 4, 100, 24
"""The first drafts are at least this long and proposed whole: so many of them at most, fewer where that many tokens of
each draft position have been judged before."""
EXPLORE_EVERY = 128
"""Steps without a draft until a token is read all the same; an answer's first step counts as so many."""
BASELINE_PROBE_EVERY, BASELINE_PROBE_STEPS = 96, 5
"""After so many steps, so many without a draft: what the target costs alone is seen only then."""
RATE_MEMORY_STEPS = 500
"""The going rate is an average that fades over this many steps."""
REFRESH_TOKENS = 8
"""Tokens judged between two looks at what drafting is worth."""


@dataclass
class _Drafted:
    """One drafted token and how it was read: (stage, confidence, token) at each exit on its way."""

    position: int
    reads: list[tuple[int, float, int]] = field(default_factory=list)

    @property
    def token(self) -> int:
        return self.reads[-1][2]

    @property
    def confidence(self) -> float:
        return self.reads[-1][1]


class AutoDrafter:
    """Chooses exits and draft length by measured pass costs and learnt acceptance; nothing to tune.

    Costs are measured before the first generation (`prepare`) and moved by every step; acceptance is learnt from the
    verdicts. Both last as long as the decoder. In order:
    - `Calibration` says what is taken for granted at first, and what is hoped for where little is known.
    - The first drafts are proposed whole (`FIRST_LENGTH`), so that early bad luck is not all that is known.
    - Then a token is read where `StoppingValue` says so, and proposed where that is worth the wider target pass.
    - A token that promises nothing is read all the same now and then (`EXPLORE_EVERY`).
    - Five steps in a hundred rest (`BASELINE_PROBE_EVERY`), to see what the target costs alone.

    What is drafted depends on clocks. At temperature 0 the ids do not; when sampling their law does not, but the same
    seed may draw other ids.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "nested"

    class Options(SortedOptions):
        """`gamma`: the longest draft."""

        gamma: Annotated[int, Field(ge=1, description="Longest draft; it stops earlier where that pays.")] = 8

    def __init__(self, draft: LanguageModel, options: AutoDrafter.Options) -> None:
        self._nested, self._options = NestedDraft(draft, options.exits), options
        self._device = draft.device
        self._costs: PassCosts | None = None
        self.calibration = Calibration(len(self._nested.exits))
        self._tokens, self._seconds = 0.0, 0.0
        self._drafts, self._active = 0, 0

    @staticmethod
    def check_draft(options: SortedOptions, draft: HasExits) -> None:
        """Raise `ModelError` for a draft without exits, or with exits that it cannot have."""
        resolve_exits(draft, options.exits)

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """Measure pass costs against this target, once; a fraction of a second on small models."""
        if self._costs is None:
            self._costs = measure_costs(target, self._nested, prompt_ids, self._options.gamma + 1)

    @property
    def costs(self) -> PassCosts:
        assert self._costs is not None
        return self._costs

    @property
    def rate(self) -> float:
        """Tokens per second of the costs' level 1 so far; never below what the target alone gives."""
        alone = 1 / self.costs.verify(1)
        return max(alone, self._tokens / self._seconds) if self._seconds else alone

    @staticmethod
    def draft_passes(options: SortedOptions, draft: HasExits) -> list[PassKind]:
        """Every step without a draft leaves one more token that it has not seen."""
        return stage_passes(resolve_exits(draft, options.exits), rows=MANY)

    @staticmethod
    def target_passes(options: AutoDrafter.Options) -> list[PassKind]:
        """The longest proposal, and the last token."""
        return [PassKind(options.gamma + 1)]

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._nested.prefill(prompt_ids)
        self._began: float | None = None
        self._skipped, self._news, self._idle = EXPLORE_EVERY, REFRESH_TOKENS, 0

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        self._close_step()
        if self._news >= REFRESH_TOKENS:
            self._worth = StoppingValue(self.rate, self.costs, self.calibration, self._options.gamma)
            self._news = 0
        before = self._nested.layer_runs
        self._drafted: list[_Drafted] = []
        self._dropped: _Drafted | None = None
        if not self._is_time_to_rest():
            self._draft(context, min(self._options.gamma, room))
        tokens = self._drafted
        self._proposed_at = perf_counter()
        numbers = [[float(t.token) for t in tokens], [math.log(t.confidence) for t in tokens]]
        ids_G, logprobs_G = send_tensor(torch.tensor(numbers), self._device)  # in one; ids below 2^24 are exact
        return Proposal(
            ids_G.long(),
            logprobs_G=logprobs_G,
            exit_depths=[self._nested.exits[t.reads[-1][0]] for t in tokens],
            draft_layers=self._nested.layer_runs - before,
        )

    def _draft(self, context: Sequence[int], longest: int) -> None:
        """Read tokens while that is worth it; one that is not worth proposing is dropped, and ends the draft."""
        unseen, alive = context[self._nested.length :], 1.0
        learning = self._drafts < FIRST_DRAFTS and self.calibration.least_judged(longest) < ENOUGH
        self._drafts += learning
        for position in range(1, longest + 1):
            if not (self._worth.of_reading(position, alive) > 0.0 or self._must_read(position, learning)):
                return
            self._skipped = 0
            token = _Drafted(position)
            worth = self._read(token, unseen, alive)
            if worth <= 0.0 and not (learning and position <= FIRST_LENGTH):
                self._dropped = token
                return
            self._drafted.append(token)
            alive *= self._acceptance(token)
            unseen = [token.token]

    def _read(self, token: _Drafted, unseen: Sequence[int], alive: float) -> float:
        """Read one token, going deeper while that is worth it; returns the worth of proposing it."""
        nested, last, cold = self._nested, len(self._nested.exits) - 1, token.position == 1
        for stage in range(last + 1):
            positions = nested.waiting(stage) if stage else len(unseen)
            began = perf_counter()
            (logprob,), (best,) = nested.read(stage, unseen).packed_2RK[:, 0].tolist()
            self.costs.saw_stage(stage, positions, cold, perf_counter() - began)
            token.reads.append((stage, math.exp(logprob), int(best)))
            acceptance = self._acceptance(token)
            here = self._worth.of_keeping(token.position, alive, acceptance)
            if stage == last:
                break
            better = min(1.0, acceptance + self.calibration.gain(stage, token.confidence))
            price = self._worth.price(self.costs.stage(stage + 1, nested.waiting(stage + 1), cold))
            if self._worth.of_keeping(token.position, alive, better) - price <= max(here, 0.0):
                break
        self.calibration.read(token.position, token.reads[0][1])
        return here

    def _acceptance(self, token: _Drafted) -> float:
        stage, confidence, _ = token.reads[-1]
        return self.calibration.acceptance(stage, token.position, confidence)

    def _is_time_to_rest(self) -> bool:
        """Whether this step is left without a draft to see what the target costs alone."""
        self._active += 1
        return self._active % (BASELINE_PROBE_EVERY + BASELINE_PROBE_STEPS) >= BASELINE_PROBE_EVERY

    def _must_read(self, position: int, learning: bool) -> bool:
        """Whether a token is read that promises nothing, for what it may teach."""
        if learning:
            return position <= FIRST_LENGTH
        self._skipped += position == 1
        return position == 1 and self._skipped > EXPLORE_EVERY

    def commit(self, committed: int, verdict: Verdict) -> None:
        read_nothing = not self._drafted and self._dropped is None
        # A pass soon after a draft is dearer, so the first idle steps say nothing of the target alone.
        if self._drafted or (read_nothing and self._idle >= 2):
            self.costs.saw_verify(len(self._drafted) + 1, perf_counter() - self._proposed_at)
        self._idle = self._idle + 1 if read_nothing else 0
        self._nested.rollback(committed)
        self._learn(verdict)
        self._tokens_of_step = verdict.accepted + 1

    def _learn(self, verdict: Verdict) -> None:
        """Every token that the verdict reached says what its confidences were worth; so does one that was dropped."""
        reached = self._drafted[: verdict.accepted + 1]
        if self._dropped is not None and verdict.accepted == len(self._drafted):
            reached = [*self._drafted, self._dropped]
        self._news += len(reached)
        for i, token in enumerate(reached):
            right = token.token if i < verdict.accepted else verdict.next_id
            for stage, confidence, guess in token.reads:
                self.calibration.saw(stage, token.position, confidence, guess == right)
            for (stage, confidence, guess), (_, _, deeper) in pairwise(token.reads):
                self.calibration.saw_deeper(stage, confidence, guess == right, deeper == right)

    def _close_step(self) -> None:
        """A step lasts from one proposal to the next; the going rate is the faded sum of both."""
        now = perf_counter()
        if self._began is not None:
            fade = 1 - 1 / RATE_MEMORY_STEPS
            self._tokens = self._tokens * fade + self._tokens_of_step
            self._seconds = self._seconds * fade + (now - self._began) / self.costs.level
        self._began = now

    def facts(self) -> dict[str, Any]:
        """Pass costs, calibration and rate as they stand, for the manifest; nothing before the first generation."""
        if self._costs is None:
            return {}
        return {
            "exits": list(self._nested.exits),
            "costs": self.costs.facts(),
            "calibration": self.calibration.facts(),
            "tokens_per_s": self.rate / self.costs.level,
        }
