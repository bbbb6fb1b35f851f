"""How far a decoder's perplexity lies below another's, with its interval. Pure functions of pairs of records.

Shape suffixes: G groups of pairs (one per target), N questions, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specbench_s2d.analysis.definitions import Interval, Measure
from specbench_s2d.analysis.stats import LEVEL, RESAMPLES, Floats, Pair, question_of, resampled


def perplexity_reduction(groups: Sequence[Sequence[Pair]]) -> Measure:
    """Percent by which a decoder's perplexity lies below its partner's, each pooled over the new tokens of the paired
    cells under the target; of several targets, the arithmetic mean of theirs. None unless every target has one."""
    sums_G4 = _sums(groups).sum(axis=1)
    if not len(sums_G4) or (sums_G4[:, [1, 3]] == 0).any():
        return Measure(None, "no perplexity: some target has no cells that both decoders finished with it")
    return Measure(float(_percent(sums_G4.T).mean()))


def perplexity_reduction_interval(
    groups: Sequence[Sequence[Pair]], resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Percentile interval of `perplexity_reduction` from a paired bootstrap over questions: each resample draws them
    once, for both decoders and all targets. None below two questions."""
    sums_GN4 = _sums(groups)
    n = sums_GN4.shape[1]
    if n < 2:
        return Interval(None, None, f"no interval from {n} question{'' if n == 1 else 's'}")
    columns_N = np.moveaxis(sums_GN4, 1, 0).reshape(n, -1)
    sums_4GR = np.moveaxis(resampled(columns_N, resamples, seed).reshape(len(groups), 4, -1), 1, 0)
    defined_R = ((sums_4GR[1] > 0) & (sums_4GR[3] > 0)).all(axis=0)
    if not defined_R.any():
        return Interval(None, None, "no interval: some target has no cells that both decoders finished")
    percents_R = _percent(sums_4GR[:, :, defined_R]).mean(axis=0)
    low, high = np.quantile(percents_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _percent(sums_4: Floats) -> Floats:
    """From our nll and tokens, then the partner's, along the first axis."""
    nll, tokens, other_nll, other_tokens = sums_4
    percents: Floats = 100 * (1 - np.exp(nll / tokens - other_nll / other_tokens))
    return percents


def _sums(groups: Sequence[Sequence[Pair]]) -> Floats:
    """Per target and question: our nll and new tokens, then the partner's; zeros where there is none. (G, N, 4)."""
    kept = [[p for p in pairs if p.ours.nll_sum is not None and p.baseline.nll_sum is not None] for pairs in groups]
    places = {q: i for i, q in enumerate(dict.fromkeys(question_of(p.ours) for pairs in kept for p in pairs))}
    sums_GN4 = np.zeros((len(groups), len(places), 4))
    for group, pairs in enumerate(kept):
        for p in pairs:
            row = (p.ours.nll_sum, p.ours.new_tokens, p.baseline.nll_sum, p.baseline.new_tokens)
            sums_GN4[group, places[question_of(p.ours)]] += np.array(row, dtype=np.float64)
    return sums_GN4
