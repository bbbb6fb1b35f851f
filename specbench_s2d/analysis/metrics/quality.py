"""How good the text is: perplexity, and task quality, which is the mean over scored answers or the library's own value
of the answers as one corpus."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Literal

import numpy as np

from specbench_s2d.analysis.metrics.intervals import Statistic, Summands, stacked
from specbench_s2d.analysis.metrics.pairs import carrying, total
from specbench_s2d.analysis.metrics.values import Measure, quotient
from specbench_s2d.measure.quality import METRICS, pooled
from specbench_s2d.runs.columns import Floats, Records
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


def _likelihood(records: Records) -> Summands:
    return stacked(records.numbers("nll_sum"), records.numbers("new_tokens"))


def _perplexities(sums_GCR: Floats) -> Floats:
    perplexities_GR: Floats = np.exp(sums_GCR[:, 0] / sums_GCR[:, 1])
    return perplexities_GR


PERPLEXITY = Statistic[Record](_likelihood, _perplexities)


def metrics_of(records: Iterable[Record]) -> list[str]:
    """The metrics that any record was scored by, in the order that `METRICS` lists them, unknown ones last."""
    found = {name for scores in Records.of(records).distinct("quality") for name in scores}
    return [*(name for name in METRICS if name in found), *sorted(found - METRICS.keys())]


def is_pooled(metric: str) -> bool:
    """Whether a row's value is the corpus's, not the mean of its answers'."""
    return metric in METRICS and METRICS[metric].pool is not None


def quality(records: Iterable[Record], metric: str) -> Measure:
    """One metric over the finished records that were scored by it; None, with the records' reasons, for none."""
    finished = Records.of(records).finished
    has, rows = quality_statistic(metric).rows(finished)
    if not has.any():
        return _nothing(finished)
    if is_pooled(metric):
        return Measure(pooled(metric, [rows[has].sum(axis=0).astype(int).tolist()]))
    scores = rows[has, 0].tolist()
    return Measure(sum(scores) / len(scores))


@cache
def quality_statistic(metric: str) -> Statistic[Record]:
    """What gives one metric its interval and its difference."""
    within = (0.0, float(METRICS[metric].highest)) if metric in METRICS else (-math.inf, math.inf)

    def score(records: Records) -> Summands:
        [scores] = _of_metric(records, "quality", metric).T
        return stacked(scores, np.ones(len(records)))

    def counts(records: Records) -> Summands:
        return stacked(_of_metric(records, "quality_counts", metric))

    def corpus(sums_GCR: Floats) -> Floats:
        """NaN where a group has no answer, whose counts are never all 0, for its reference's words count too."""
        scores = [
            [pooled(metric, [counts_C.astype(int).tolist()]) if counts_C.any() else math.nan for counts_C in sums_CR.T]
            for sums_CR in sums_GCR
        ]
        return np.array(scores, dtype=np.float64)

    if is_pooled(metric):
        return Statistic[Record](counts, corpus, scale="linear", within=within, weight=_REFERENCE)
    return Statistic[Record](score, scale="linear", within=within)


def _of_metric(records: Records, field: Literal["quality", "quality_counts"], metric: str) -> Floats:
    """One metric's score, or its counts, of each record, (records, numbers), NaN where it has none."""

    def of_values() -> Floats:
        found = [of_answer.get(metric) for of_answer in records.columns.values(field)]
        rows = [[math.nan if value is None else value] if field == "quality" else value or [] for value in found]
        width = max(map(len, rows), default=1) or 1
        return np.array([row or [math.nan] * width for row in [*rows, []]], dtype=np.float64)

    table: Floats = records.columns.once((field, metric), of_values)
    return table[records.codes(field)]  # -1, for none, is the row at the end


def scored(records: Records, metric: str) -> int:
    """How many records one metric has a score of."""
    return int(np.sum(~np.isnan(_of_metric(records, "quality", metric))))


def _nothing(finished: Records) -> Measure:
    reasons = sorted({said["quality"] for said in finished.distinct("reasons") if "quality" in said})
    return Measure(None, "no answer was scored by it" + (f" ({', '.join(reasons)})" if reasons else ""))
