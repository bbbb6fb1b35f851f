"""How far answers repeat themselves: distinct n-grams, and answers that end in a loop.

Both are of an answer's token ids without its EOS. Text of low perplexity is known to repeat itself (Holtzman et al.
2020, arXiv 1904.09751), so they stand beside perplexity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from specbench_s2d.analysis.metrics.intervals import Statistic, Summands, stacked
from specbench_s2d.analysis.metrics.pairs import carrying
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.runs.columns import Columns, Floats, Records, in_order
from specbench_s2d.runs.record import Record

LOOP_TOKENS = 8
"""A repeated ending that is shorter is no loop: `000` of a number is not."""
LOOP_TIMES = 3
"""How often the block stands at the end of the answer."""

_WITHIN = (0.0, 1.0)


def distinct_1(records: Iterable[Record]) -> Measure:
    """Mean over answers of the distinct tokens of an answer over all its tokens (distinct-1 of Li et al. 2016,
    arXiv 1510.03055, there of words), by token ids and without the EOS. Long answers have less: compare answers of
    one length."""
    return _mean(records, _OF_1, "a token")


def distinct_2(records: Iterable[Record]) -> Measure:
    """Mean over answers of the distinct pairs of neighbouring tokens of an answer over all its pairs (distinct-2 of Li
    et al. 2016, there of words), by token ids and without the EOS. Long answers have less: compare answers of one
    length."""
    return _mean(records, _OF_2, "2 tokens")


def loop_share(records: Iterable[Record]) -> Measure:
    """Share of answers that end in a loop: their last tokens are one block of tokens at least three times in a row,
    over at least 8 tokens; the block may begin anywhere, so an ending within it counts. Of the answers of at least 8
    tokens, the EOS not counted."""
    return _mean(records, ends_in_loop, f"{LOOP_TOKENS} tokens")


def distinct_share(ids: Sequence[int], n: int) -> float | None:
    """Distinct n-grams over all n-grams; None for fewer than n ids."""
    count = len(ids) - n + 1
    return len(set(zip(*(ids[i:] for i in range(n)), strict=False))) / count if count > 0 else None


def ends_in_loop(ids: Sequence[int]) -> float | None:
    """1 where some block of p ids fills at least the last 3p and the last `LOOP_TOKENS` ids, else 0; None for fewer ids
    than that."""
    if len(ids) < LOOP_TOKENS:
        return None
    periods = range(1, len(ids) // LOOP_TIMES + 1)
    return float(any(_repeats(ids[-max(LOOP_TIMES * period, LOOP_TOKENS) :], period) for period in periods))


def _repeats(ids: Sequence[int], period: int) -> bool:
    """Whether every id equals the one `period` places before it."""
    return ids[period:] == ids[:-period]


OfIds = Callable[[Sequence[int]], float | None]
_OF_1, _OF_2 = (partial(distinct_share, n=n) for n in (1, 2))


def _answers(records: Records, of_ids: OfIds) -> Floats:
    """What `of_ids` makes of each answer's ids without its EOS, NaN for too few."""
    of_all: Floats = records.columns.once(of_ids, lambda: _all_answers(records.columns, of_ids))
    return of_all[records.rows]


def _all_answers(columns: Columns, of_ids: OfIds) -> Floats:
    """The same of every row; of answers that are alike, once."""
    ids, ends = columns.values("output_ids"), Records.all_of(columns).equal("stop", "eos")
    places, distinct = in_order(2 * columns.codes("output_ids") + ends)
    answers = (ids[code // 2][: -1 if code % 2 else None] if code >= 0 else () for code in distinct.tolist())
    values = [math.nan if (value := of_ids(answer)) is None else value for answer in answers]
    return np.array(values, dtype=np.float64)[places]


def _mean(records: Iterable[Record], of_ids: OfIds, long_enough: str) -> Measure:
    kept, note = carrying(records, "output_ids")
    values = _answers(kept, of_ids)
    values = values[~np.isnan(values)].tolist()
    if not values:
        return Measure(None, note if not len(kept) else f"no answer has {long_enough}")
    return Measure(sum(values) / len(values), note)


def _statistic(of_ids: OfIds) -> Statistic[Record]:
    """What gives the mean over answers its interval."""

    def rows(records: Records) -> Summands:
        return stacked(_answers(records, of_ids), np.ones(len(records)))

    return Statistic(rows, scale="linear", within=_WITHIN)


DISTINCT_1, DISTINCT_2, LOOP_SHARE = _statistic(_OF_1), _statistic(_OF_2), _statistic(ends_in_loop)
STATISTICS = {"distinct_1": DISTINCT_1, "distinct_2": DISTINCT_2, "loop_share": LOOP_SHARE}
"""By the name of the column."""
