"""The cost model: what a draft pass costs beside a target pass, and the speed-up that follows from the acceptances.

Everything is taken from the timed loop itself, on the cells that AR finished too, so that a ratio compares passes of
the same questions, interleaved on the same machine. Pure functions of `stats.Pair`s, one list per target (or run).
Source of the prediction: Leviathan et al. 2023 (arXiv 2211.17192), theorem 3.8, with the measured acceptances.

Shape suffixes: G groups (one per target), R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from specbench_s2d.analysis.metrics import bootstrap
from specbench_s2d.analysis.metrics.bootstrap import LEVEL, RESAMPLES, Floats
from specbench_s2d.analysis.metrics.columns import Interval, Measure, defines
from specbench_s2d.analysis.metrics.stats import Pair, draft_levels, question_of

Pairs = Sequence[Pair]
_NOTHING_DRAFTED = "nothing was drafted"


@defines("cost_ratio")
def cost_ratio(groups: Sequence[Pairs]) -> Measure:
    """Cost ratio c: seconds of one draft pass (exit checks and the choice of the token included) over seconds of one
    AR step, both in the timed loop, on the paired cells. A draft pass drafts one token of a chain, one level of a tree
    or of a beam; of several targets, the mean of their ratios."""
    return _figure(groups, _cost_ratios)


@defines("verify_ratio")
def verify_ratio(groups: Sequence[Pairs]) -> Measure:
    """Seconds of one target pass, as wide as the proposals make it and judged, over seconds of one AR step, on the
    paired cells; of several targets, the mean."""
    return _figure(groups, _verify_ratios, drafting=False)


@defines("speedup_predicted")
def speedup_predicted(groups: Sequence[Pairs]) -> Measure:
    """The speed-up that the acceptances and the cost ratio predict: MAT / (1 + draft passes per step x c), for target
    passes that cost what AR's do. What the measured one lacks of it went into wider target passes and into the loop."""
    return _figure(groups, _predicted)


def cost_ratio_interval(groups: Sequence[Pairs], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """95 % interval of `cost_ratio`: paired bootstrap over questions."""
    sums = [_sums(pairs) for pairs in groups]
    if not any(sums):
        return Interval(None, None)
    return bootstrap.interval(sums, lambda sums_GCR: _cost_ratios(sums_GCR).mean(axis=0), resamples, seed=seed)


def cost_ratio_ratio(
    ours: Sequence[Pairs], theirs: Sequence[Pairs], resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> tuple[Measure, Interval]:
    """One cost ratio over another (of another run, say), with its interval: each resample draws questions once
    for both sides and all targets. None unless both sides drafted."""
    sides = [_sums(pairs) for pairs in (*ours, *theirs)]
    if not sides or not all(sides):
        return Measure(None, _NOTHING_DRAFTED), Interval(None, None, _NOTHING_DRAFTED)

    def quotient(sums_GCR: Floats) -> Floats:
        ratios_GR = _cost_ratios(sums_GCR)
        quotients: Floats = ratios_GR[: len(ours)].mean(axis=0) / ratios_GR[len(ours) :].mean(axis=0)
        return quotients

    value, interval = bootstrap.estimate(sides, quotient, resamples, seed, level)
    return Measure(value) if math.isfinite(value) else Measure(None, _NOTHING_DRAFTED), interval


def _figure(groups: Sequence[Pairs], of_sums: Callable[[Floats], Floats], drafting: bool = True) -> Measure:
    """The mean over groups of what `of_sums` makes of each; None unless every group has one."""
    sums = [_sums(pairs) for pairs in groups]
    if not sums or not all(sums):
        return Measure(None, "no cell with pass times that AR finished too")
    totals_GC1 = np.array([np.sum(list(of_question.values()), axis=0) for of_question in sums])[:, :, None]
    if drafting and not (totals_GC1[:, 1] > 0).all():
        return Measure(None, _NOTHING_DRAFTED)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(of_sums(totals_GC1).mean())
    return Measure(value) if math.isfinite(value) else Measure(None, "no step after the prefill")


def _cost_ratios(sums_GCR: Floats) -> Floats:
    draft_s, draft_passes, *_, ar_s, ar_passes = np.moveaxis(sums_GCR, 1, 0)
    ratios_GR: Floats = (draft_s / draft_passes) / (ar_s / ar_passes)
    return ratios_GR


def _verify_ratios(sums_GCR: Floats) -> Floats:
    _, _, verify_s, passes, _, _, ar_s, ar_passes = np.moveaxis(sums_GCR, 1, 0)
    ratios_GR: Floats = (verify_s / passes) / (ar_s / ar_passes)
    return ratios_GR


def _predicted(sums_GCR: Floats) -> Floats:
    _, draft_passes, _, _, steps, emitted, _, _ = np.moveaxis(sums_GCR, 1, 0)
    predicted_GR: Floats = (emitted / steps) / (1 + draft_passes / steps * _cost_ratios(sums_GCR))
    return predicted_GR


def _sums(pairs: Pairs) -> bootstrap.Sums:
    """Per question: draft seconds and passes, verify seconds and target passes, Steps and what they emitted; AR's
    decode seconds and target passes."""
    timed = [
        p
        for p in pairs
        if p.ours.draft_s is not None and p.baseline.decode_s is not None
        if p.ours.target_passes and p.baseline.target_passes
    ]
    return bootstrap.question_sums(timed, lambda p: question_of(p.ours), _row)


def _row(pair: Pair) -> Sequence[float | None]:
    ours, emitted = pair.ours, pair.ours.emitted_per_step or []
    return (
        ours.draft_s, sum(draft_levels(ours)), ours.verify_s, ours.target_passes, len(emitted), sum(emitted),
        pair.baseline.decode_s, pair.baseline.target_passes,
    )  # fmt: skip
