"""How far a decoder's perplexity lies below another's, in percent, with its interval; pure functions of pairs.

Shape suffixes: G groups of pairs (one per target), R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specbench_s2d.analysis import bootstrap
from specbench_s2d.analysis.bootstrap import RESAMPLES, Floats
from specbench_s2d.analysis.definitions import Interval, Measure
from specbench_s2d.analysis.stats import Pair, question_of


def perplexity_reduction(
    groups: Sequence[Sequence[Pair]], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Measure, Interval]:
    """Percent by which a decoder's perplexity lies below its partner's, each pooled over the new tokens of the cells
    that both have; of several targets, the arithmetic mean of their percents, and none unless every target has one."""
    kept = [[p for p in pairs if p.ours.nll_sum is not None and p.baseline.nll_sum is not None] for pairs in groups]
    if not kept or not all(kept):
        why = f"{sum(not pairs for pairs in kept)} of {len(kept)} targets have no cell that both have"
        return Measure(None, why), Interval(None, None, why)
    sums = [bootstrap.question_sums(pairs, lambda p: question_of(p.ours), _nats_and_tokens) for pairs in kept]
    totals_G41 = np.array([sum(rows.values(), np.zeros(4)) for rows in sums])[:, :, None]
    return Measure(float(_percents(totals_G41)[0])), bootstrap.interval(sums, _percents, resamples, seed=seed)


def _nats_and_tokens(pair: Pair) -> tuple[float | None, ...]:
    return pair.ours.nll_sum, pair.ours.new_tokens, pair.baseline.nll_sum, pair.baseline.new_tokens


def _percents(sums_G4R: Floats) -> Floats:
    """The mean over groups of their percents, (R,)."""
    nats_GR, tokens_GR, other_nats_GR, other_tokens_GR = np.moveaxis(sums_G4R, 1, 0)
    percents_GR = 100 * (1 - np.exp(nats_GR / tokens_GR - other_nats_GR / other_tokens_GR))
    percents_R: Floats = percents_GR.mean(axis=0)
    return percents_R
