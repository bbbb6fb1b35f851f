"""How far answers repeat themselves: distinct n-grams, and answers that end in a loop.

Both are of an answer's token ids without its EOS. Text of low perplexity is known to repeat itself (Holtzman et al.
2020, arXiv 1904.09751), so they stand beside perplexity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from specbench_s2d.analysis.metrics.intervals import Statistic
from specbench_s2d.analysis.metrics.pairs import carrying
from specbench_s2d.analysis.metrics.values import Measure
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
    return _mean(records, partial(distinct_share, n=1), "a token")


def distinct_2(records: Iterable[Record]) -> Measure:
    """Mean over answers of the distinct pairs of neighbouring tokens of an answer over all its pairs (distinct-2 of Li
    et al. 2016, there of words), by token ids and without the EOS. Long answers have less: compare answers of one
    length."""
    return _mean(records, partial(distinct_share, n=2), "2 tokens")


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


def _answer(record: Record) -> list[int] | None:
    """The ids of an answer without its EOS."""
    ids = record.output_ids
    return ids[:-1] if ids and record.stop == "eos" else ids


def _mean(records: Iterable[Record], of_ids: Callable[[Sequence[int]], float | None], long_enough: str) -> Measure:
    kept, note = carrying(records, "output_ids")
    values = [value for r in kept if (value := of_ids(_answer(r) or ())) is not None]
    if not values:
        return Measure(None, note if not kept else f"no answer has {long_enough}")
    return Measure(sum(values) / len(values), note)


def _statistic(of_ids: Callable[[Sequence[int]], float | None]) -> Statistic[Record]:
    """What gives the mean over answers its interval."""

    def row(record: Record) -> tuple[float, float] | None:
        value = of_ids(_answer(record) or ())
        return None if value is None else (value, 1.0)

    return Statistic(row, scale="linear", within=_WITHIN)


DISTINCT_1, DISTINCT_2 = (_statistic(partial(distinct_share, n=n)) for n in (1, 2))
LOOP_SHARE = _statistic(ends_in_loop)
STATISTICS = {"distinct_1": DISTINCT_1, "distinct_2": DISTINCT_2, "loop_share": LOOP_SHARE}
"""By the name of the column."""
