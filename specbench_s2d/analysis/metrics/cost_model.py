"""The cost model: what a draft pass costs compared with a target pass, and the speed-up that the acceptances predict.

Everything is taken from the timed loop itself, on the cells that AR finished too, so that a ratio compares passes of
the same questions, interleaved on the same machine. Each function takes groups of pairs, one per target; of several,
it gives the mean of theirs. Source of the prediction: Leviathan et al. 2023 (arXiv 2211.17192), theorem 3.8, with the
measured acceptances.

Shape suffixes: G groups (one per target), C summed columns, R values at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from specbench_s2d.analysis.metrics.acceptance import draft_levels
from specbench_s2d.analysis.metrics.intervals import Statistic, Summands, stacked
from specbench_s2d.analysis.metrics.pairs import Pair, Pairs
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.runs.columns import Floats

_NOTHING_DRAFTED = "nothing was drafted"
_EMITTED = "emitted_per_step"


def cost_ratio(groups: Sequence[Iterable[Pair]]) -> Measure:
    """Cost ratio c: seconds of one draft pass (exit checks and the choice of the token included) over seconds of one
    AR step, both in the timed loop, on the paired cells. A draft pass drafts one token of a chain, one level of a tree
    or of a beam; of several targets, the mean of their ratios."""
    return _measure(groups, COST_RATIO)


def verify_ratio(groups: Sequence[Iterable[Pair]]) -> Measure:
    """Seconds of one target pass, as wide as the proposals make it and judged, over seconds of one AR step, on the
    paired cells; of several targets, the mean."""
    return _measure(groups, _VERIFY_RATIO, drafting=False)


def speedup_predicted(groups: Sequence[Iterable[Pair]]) -> Measure:
    """The speed-up that the acceptances and the cost ratio predict: MAT / (1 + draft passes per step x c), for target
    passes that cost what AR's do. What the measured one lacks of it went into wider target passes and into the loop."""
    return _measure(groups, _PREDICTED)


def _measure(groups: Sequence[Iterable[Pair]], statistic: Statistic[Pair], drafting: bool = True) -> Measure:
    """The mean over groups; None unless every group has a value."""
    sums = [statistic.sums(pairs) for pairs in groups]
    if not sums or not all(sums):
        return Measure(None, "no cell with pass times that AR finished too")
    if drafting and not all(of_group.total_C[1] > 0 for of_group in sums):
        return Measure(None, _NOTHING_DRAFTED)
    value = statistic.value(sums)
    return Measure(value) if math.isfinite(value) else Measure(None, "no step after the prefill")


def _passes(pairs: Pairs) -> Summands:
    """Draft seconds and passes, verify seconds and target passes, Steps and what they emitted; AR's decode seconds and
    target passes."""
    ours, ar = pairs.ours, pairs.baseline
    passes, ar_s, ar_passes = ours.numbers("target_passes"), ar.numbers("decode_s"), ar.numbers("target_passes")
    steps, emitted = (np.nan_to_num(found) for found in (ours.lengths(_EMITTED), ours.sums(_EMITTED)))
    _, rows = stacked(
        ours.numbers("draft_s"), draft_levels(ours), ours.numbers("verify_s"), passes, steps, emitted, ar_s, ar_passes
    )  # fmt: skip
    return ours.known("draft_s") & ar.known("decode_s") & (passes > 0) & (ar_passes > 0), rows


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


COST_RATIO = Statistic[Pair](_passes, _cost_ratios)
_VERIFY_RATIO = Statistic[Pair](_passes, _verify_ratios)
_PREDICTED = Statistic[Pair](_passes, _predicted)
