"""Projections: what pass costs and acceptances together say of a decoder's speed. Plain numbers, no model.

A step of gamma drafts costs a target pass over gamma + 1 positions, a first draft token (cold) and gamma - 1 more
(warm), each down to the exit that it leaves at; it emits what it accepts and one token more. The speed-up is AR's
seconds per token over the step's. What the loop itself takes is left out: a projection is a little too fast.

Assumptions beyond the costs: at a gamma below the recorded one a step accepts the same, cut at gamma; above it, a step
that accepted all goes on at the one rate of all tokens, and such values are marked extrapolated; a stage costs the
same over one position as over the few that waited below it.

Shape suffixes: C summed columns, E exits, G groups (one here), N rounds of the pass costs, R values at once,
W widths.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from specbench_s2d.analysis.metrics.intervals import Sums, interval, summed
from specbench_s2d.analysis.metrics.values import Interval
from specbench_s2d.decoding.geometric import mean_emitted
from specbench_s2d.runs.columns import Asked, Floats

_QUARTILES = (0.25, 0.75)
_EMITTED = _STEPS = 0  # the first column of `Turn.row`, and of `_rate_row`: what questions weigh by


@dataclass(frozen=True)
class Costs:
    """Seconds, a value per round: `ar_N` an AR pass; `verify_WN` target passes of 1 to W positions; `first_EN` and
    `next_EN` a drafted token that leaves at each exit, as a step's first and later (a plain draft has one exit)."""

    ar_N: Floats
    verify_WN: Floats
    first_EN: Floats
    next_EN: Floats

    def median(self) -> Costs:
        """The same with one round: the medians."""
        parts = (self.ar_N, self.verify_WN, self.first_EN, self.next_EN)
        return Costs(*(np.median(part, axis=-1, keepdims=True) for part in parts))

    def widened(self, widest: int) -> Costs:
        """The same with target passes of up to `widest` positions, carried on by the mean rise of those measured."""
        measured = len(self.verify_WN)
        if widest <= measured:
            return self
        rise_N = (self.verify_WN[-1] - self.verify_WN[0]) / max(1, measured - 1)
        more = [self.verify_WN[-1] + i * rise_N for i in range(1, widest - measured + 1)]
        return Costs(self.ar_N, np.vstack([self.verify_WN, *more]), self.first_EN, self.next_EN)

    @property
    def per_column_CN(self) -> Floats:
        """Seconds by the columns of `Turn.row`."""
        return np.vstack([np.zeros_like(self.ar_N), self.verify_WN, self.first_EN, self.next_EN])


@dataclass(frozen=True)
class Turn:
    """One recorded answer: by step, tokens drafted and accepted; `stages`: the exit (from 0) of each drafted token."""

    question: Hashable
    drafted: Sequence[int]
    accepted: Sequence[int]
    stages: Sequence[int]

    def row(self, gamma: int | None, widths: int, exits: int) -> Floats:
        """Sums over the steps, cut at `gamma` drafts: tokens emitted; steps by width; tokens that were a step's first,
        and later ones, by exit."""
        verify_W, tokens_2E = np.zeros(widths), np.zeros((2, exits))
        emitted = at = 0
        for drafted, accepted in zip(self.drafted, self.accepted, strict=True):
            kept = drafted if gamma is None else min(drafted, gamma)
            emitted += min(accepted, kept) + 1
            verify_W[kept] += 1
            for place, stage in enumerate(self.stages[at : at + kept]):
                tokens_2E[min(place, 1), stage] += 1
            at += drafted
        return np.array([emitted, *verify_W, *tokens_2E.ravel()])


@dataclass(frozen=True)
class Projected:
    """A projected speed-up. `low`, `high`: 95 % over so many `questions`; `costs_low`, `costs_high`: quartiles over
    rounds of the pass costs. `cost_ratio`: a drafted token's seconds over AR's pass; `verify_ratio`: a step's target
    pass over it. `note`: why an interval is missing."""

    speedup: float
    low: float | None
    high: float | None
    costs_low: float
    costs_high: float
    mat: float
    cost_ratio: float
    verify_ratio: float
    extrapolated: bool = False
    note: str | None = None
    questions: int | None = None


def from_turns(turns: Sequence[Turn], costs: Costs, gamma: int | None = None) -> Projected:
    """What recorded steps would take at these costs, at their own draft lengths or all at `gamma`."""
    most = max((drafted for turn in turns for drafted in turn.drafted), default=0)
    if gamma is not None and gamma > most:
        return _beyond(turns, costs, gamma)
    costs = costs.widened(most + 1)
    widths, exits = len(costs.verify_WN), len(costs.first_EN)
    sums = _summed(turns, [t.row(gamma, widths, exits) for t in turns])
    total_C = sums.total_C
    middle = costs.median()

    def speedups(sums_GCR: Floats) -> Floats:
        found: Floats = sums_GCR[0, 0] * middle.ar_N[0] / (middle.per_column_CN[:, 0] @ sums_GCR[0])
        return found

    over_questions = interval([sums], speedups, weight=_EMITTED)
    by_round_N = total_C[0] * costs.ar_N / (total_C @ costs.per_column_CN)
    return _projected(float(speedups(total_C[None, :, None])[0]), over_questions, by_round_N, total_C, middle)


def at_rate(alpha: float, gamma: int, shares_E: Sequence[float], costs: Costs) -> Projected:
    """What a step of `gamma` drafts takes where each is accepted with chance `alpha` and leaves by these shares."""
    costs = costs.widened(gamma + 1)
    row_C = _mean_step(mean_emitted(alpha, gamma), gamma, np.array([shares_E, shares_E]), len(costs.verify_WN))
    middle = costs.median()
    value = float(row_C[0] * middle.ar_N[0] / (row_C @ middle.per_column_CN[:, 0]))
    by_round_N = row_C[0] * costs.ar_N / (row_C @ costs.per_column_CN)
    nothing = Interval(None, None, "no interval over questions: a published mean has none")
    return _projected(value, nothing, by_round_N, row_C, middle)


def _summed(turns: Sequence[Turn], rows: Sequence[Any]) -> Sums:
    """The sums of the turns' rows by question."""
    numbers: dict[Hashable, int] = {}
    questions = np.array([numbers.setdefault(turn.question, len(numbers)) for turn in turns])
    return summed(Asked.of(questions, np.zeros_like(questions)), np.array(rows, dtype=np.float64))


def _beyond(turns: Sequence[Turn], costs: Costs, gamma: int) -> Projected:
    """Above the recorded draft lengths: steps that accepted all they drafted go on at the pooled rate."""
    costs = costs.widened(gamma + 1)
    widths, exits, middle = len(costs.verify_WN), len(costs.first_EN), costs.median()
    sums = _summed(turns, [_rate_row(t, gamma, exits) for t in turns])
    seconds_C = middle.per_column_CN[:, 0]

    def speedups(sums_GCR: Floats) -> Floats:
        rows = [_step_of(sums_C, gamma, widths) for sums_C in sums_GCR[0].T]
        return np.array([row_C[0] * middle.ar_N[0] / (row_C @ seconds_C) for row_C in rows])

    row_C = _step_of(sums.total_C, gamma, widths)
    by_round_N = row_C[0] * costs.ar_N / (row_C @ costs.per_column_CN)
    over_questions = interval([sums], speedups, weight=_STEPS)
    value = float(row_C[0] * middle.ar_N[0] / (row_C @ seconds_C))
    return _projected(value, over_questions, by_round_N, row_C, middle, extrapolated=True)


def _rate_row(turn: Turn, gamma: int, exits: int) -> list[float]:
    """Steps; tokens accepted; tokens judged (accepted, and the first of each step that was not); steps that accepted
    all, by how many they drafted (0 to gamma); and by exit the tokens that were a step's first, and later ones."""
    steps = list(zip(turn.drafted, turn.accepted, strict=True))
    judged = sum(accepted + (accepted < drafted) for drafted, accepted in steps)
    whole = np.bincount([drafted for drafted, accepted in steps if accepted == drafted], minlength=gamma + 1)
    tokens = turn.row(None, gamma + 1, exits)[-2 * exits :]
    return [float(len(steps)), float(sum(turn.accepted)), float(judged), *whole.tolist(), *tokens.tolist()]


def _step_of(sums_C: Floats, gamma: int, widths: int) -> Floats:
    """The mean step at `gamma` from sums as in `_rate_row`."""
    steps, accepted, judged = sums_C[:3]
    whole_W, tokens_2E = sums_C[3 : gamma + 4], sums_C[gamma + 4 :].reshape(2, -1)
    alpha = float(accepted / judged)
    further_W = np.array([mean_emitted(alpha, gamma - drafted) - 1 for drafted in range(gamma + 1)])
    # Where every step was of one draft there are no later ones: they leave as the first do.
    tokens_2E = np.where(tokens_2E.sum(axis=1, keepdims=True) > 0, tokens_2E, tokens_2E[:1])
    shares_2E = tokens_2E / tokens_2E.sum(axis=1, keepdims=True)
    return _mean_step(float((steps + accepted + whole_W @ further_W) / steps), gamma, shares_2E, widths)


def _mean_step(emitted: float, gamma: int, shares_2E: Floats, widths: int) -> Floats:
    """A step in the columns of `Turn.row`."""
    verify_W = np.zeros(widths)
    verify_W[gamma] = 1
    return np.array([emitted, *verify_W, *shares_2E[0], *((gamma - 1) * shares_2E[1])])


def _projected(
    value: float, over_questions: Interval, by_round_N: Floats, row_C: Floats, middle: Costs, extrapolated: bool = False
) -> Projected:
    widths = len(middle.verify_WN)
    seconds_C, steps = middle.per_column_CN[:, 0], row_C[1 : 1 + widths].sum()
    drafting, tokens = row_C[1 + widths :] @ seconds_C[1 + widths :], row_C[1 + widths :].sum()
    verifying = row_C[1 : 1 + widths] @ seconds_C[1 : 1 + widths]
    low, high = np.quantile(by_round_N, _QUARTILES)
    ar_s = middle.ar_N[0]
    return Projected(
        value, over_questions.low, over_questions.high, float(low), float(high), float(row_C[0] / steps),
        float(drafting / max(tokens, 1e-12) / ar_s), float(verifying / steps / ar_s), extrapolated, over_questions.note,
        over_questions.questions or None,
    )  # fmt: skip


def cumulative(by_stage: Iterable[Sequence[float]]) -> Floats:
    """Seconds down to each exit (E, N) from those of each stage alone."""
    return np.cumsum(np.array(list(by_stage), dtype=np.float64), axis=0)
