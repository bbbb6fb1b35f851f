"""How good the text is: perplexity, and task quality, which is the mean over scored answers or the library's own value
of the answers as one corpus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from specbench_s2d.analysis.metrics.intervals import Floats, Statistic
from specbench_s2d.analysis.metrics.pairs import carrying, total
from specbench_s2d.analysis.metrics.values import Measure, quotient
from specbench_s2d.measure.quality import METRICS, pooled
from specbench_s2d.runs.record import Record

_REFERENCE = 1  # in the counts of BLEU and of chrF: words, or characters, of the reference


def perplexity(records: Iterable[Record]) -> Measure:
    """exp of the summed negative log-likelihood over new tokens, pooled over the row's tokens, under the target
    at temperature 1, over the ids that its tokenizer names (rows that pad a head have no part in the softmax)."""
    kept, note = carrying(records, "nll_sum", "new_tokens")
    mean = quotient(total(kept, "nll_sum"), total(kept, "new_tokens"), "no new token", note)
    if mean.value is None:
        return mean
    try:
        return Measure(math.exp(mean.value), note)
    except OverflowError:
        return Measure(None, f"exp of {mean.value:.4g} nats a token is beyond what a number holds")


def _likelihood(record: Record) -> tuple[float, float] | None:
    if record.nll_sum is None or record.new_tokens is None:
        return None
    return record.nll_sum, float(record.new_tokens)


def _perplexities(sums_GCR: Floats) -> Floats:
    perplexities_GR: Floats = np.exp(sums_GCR[:, 0] / sums_GCR[:, 1])
    return perplexities_GR


PERPLEXITY = Statistic(_likelihood, _perplexities)


def metrics_of(records: Iterable[Record]) -> list[str]:
    """The metrics that any record was scored by, in the order that `METRICS` lists them, unknown ones last."""
    found = {name for r in records for name in r.quality or {}}
    return [*(name for name in METRICS if name in found), *sorted(found - METRICS.keys())]


def is_pooled(metric: str) -> bool:
    """Whether a row's value is the corpus's, not the mean of its answers'."""
    return metric in METRICS and METRICS[metric].pool is not None


def quality(records: Iterable[Record], metric: str) -> Measure:
    """One metric over the finished records that were scored by it; None, with the records' reasons, for none."""
    finished = [r for r in records if r.status == "ok"]
    if is_pooled(metric):
        counts = [c for r in finished if (c := (r.quality_counts or {}).get(metric))]
        return Measure(pooled(metric, counts)) if counts else _nothing(finished)
    scores = [score for r in finished if (score := (r.quality or {}).get(metric)) is not None]
    return Measure(sum(scores) / len(scores)) if scores else _nothing(finished)


def quality_statistic(metric: str) -> Statistic[Record]:
    """What gives one metric its interval and its difference."""
    within = (0.0, float(METRICS[metric].highest)) if metric in METRICS else (-math.inf, math.inf)

    def score(record: Record) -> tuple[float, float] | None:
        value = (record.quality or {}).get(metric)
        return None if value is None else (value, 1.0)

    def corpus(sums_GCR: Floats) -> Floats:
        """NaN where a group has no answer, whose counts are never all 0, for its reference's words count too."""
        scores = [
            [pooled(metric, [counts_C.astype(int).tolist()]) if counts_C.any() else math.nan for counts_C in sums_CR.T]
            for sums_CR in sums_GCR
        ]
        return np.array(scores, dtype=np.float64)

    if is_pooled(metric):
        return Statistic(
            lambda r: (r.quality_counts or {}).get(metric),
            corpus,
            scale="linear",
            within=within,
            weight=_REFERENCE,
        )
    return Statistic(score, scale="linear", within=within)


def _nothing(finished: Sequence[Record]) -> Measure:
    reasons = sorted({r.reasons["quality"] for r in finished if "quality" in r.reasons})
    return Measure(None, "no answer was scored by it" + (f" ({', '.join(reasons)})" if reasons else ""))
