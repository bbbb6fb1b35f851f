"""Tokens, times, and how much faster than AR they are.

A speed-up takes groups of pairs, one group per target: of several, it is the mean of the targets' own, each weighing
alike.

Shape suffixes: G groups (one per target, or one per run), C summed columns, R values at once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from specbench_s2d.analysis.metrics.intervals import Floats, Statistic
from specbench_s2d.analysis.metrics.pairs import Pair, Question, carrying, full_sum, question_of, total
from specbench_s2d.analysis.metrics.values import Measure, quotient
from specbench_s2d.runs.record import Record

Groups = Sequence[Sequence[Pair]]
_NO_TIME = "no decode time: every answer is one token"


def new_tokens(records: Iterable[Record]) -> Measure:
    """Generated ids up to and including the first EOS, capped at max-new-tokens; summed over the row."""
    return full_sum(records, "new_tokens")


def tokens_per_answer(records: Iterable[Record]) -> Measure:
    """New tokens per answer, the mean over the row's cells. Perplexities of texts of different lengths weigh different
    tokens: read them beside this, or run with --ignore-eos."""
    kept, note = carrying(records, "new_tokens")
    return quotient(total(kept, "new_tokens"), len(kept), "no answer", note)


def _length(record: Record) -> tuple[float, float] | None:
    return None if record.new_tokens is None else (float(record.new_tokens), 1.0)


LENGTH = Statistic(_length)


def decode_tokens(record: Record) -> int:
    """New tokens that the Steps made: all but the first, which the prefill gives."""
    return max((record.new_tokens or 0) - 1, 0)


def tokens_per_s(records: Iterable[Record]) -> Measure:
    """Decode rate: new tokens after the first (which the prefill gives) over decode seconds, each summed."""
    kept, note = carrying(records, "new_tokens", "decode_s")
    return quotient(float(sum(map(decode_tokens, kept))), total(kept, "decode_s"), _NO_TIME, note)


def device_spread(records: Iterable[Record]) -> Measure:
    """How far the devices of the row lie apart: the decode rate of the fastest over that of the slowest, less one, each
    over its own cells; empty for one device."""
    by_device: defaultdict[str | None, list[Record]] = defaultdict(list)
    for record in records:
        by_device[record.device_id].append(record)
    if len(by_device) < 2:
        return Measure(None)
    rates = [tokens_per_s(part).value for part in by_device.values()]
    known = [rate for rate in rates if rate]
    return Measure(max(known) / min(known) - 1) if len(known) > 1 else Measure(None, _NO_TIME)


def percent_of_bound(records: Iterable[Record]) -> Measure:
    """Tokens/s as a share of the bound: the seconds in which the Steps' passes could have read their weights and caches
    at the read rate measured for what the target's step reads, over the decode seconds, in per cent. Above 100 the rate
    was measured too low."""
    kept, note = carrying(records, "bound_s", "decode_s")
    share = quotient(total(kept, "bound_s"), total(kept, "decode_s"), _NO_TIME, note)
    return share if share.value is None else Measure(100 * share.value, share.note)


def speedup(groups: Groups) -> Measure:
    """Decode tokens/s over AR's on the same target, questions and device, over the paired cells: each side's rate
    is its summed new tokens after the first over its summed decode seconds."""
    values = [_speedup(pairs) for pairs in groups]
    if len(values) == 1:
        return values[0]
    known = [measure.value for measure in values if measure.value is not None]
    if len(known) < len(values) or not known:
        return Measure(None, f"no mean: {len(values) - len(known)} of {len(values)} targets have no speed-up")
    return Measure(math.fsum(known) / len(known))


def speedup_ratio(ours: Groups, theirs: Groups) -> Measure:
    """One speed-up over another, each over the baseline of its own run."""
    over, under = speedup(ours), speedup(theirs)
    if over.value is None or under.value is None:
        return Measure(None, over.note or under.note)
    return quotient(over.value, under.value, "no ratio: the other speed-up is 0")


def _speedup(pairs: Sequence[Pair]) -> Measure:
    sums = SPEEDUP.sums(pairs)
    if pairs and not sums:
        return Measure(None, carrying([record for p in pairs for record in (p.ours, p.baseline)], "decode_s")[1])
    return _quotient_of_rates(sum(sums.values(), np.zeros(4)).tolist(), "decode rate")


def _quotient_of_rates(sums: Sequence[float], what: str) -> Measure:
    """Tokens over seconds, over the baseline's."""
    tokens, seconds, base_tokens, base_seconds = sums
    if min(seconds, base_seconds, base_tokens) <= 0:
        return Measure(None, f"no {what} to compare: AR finished none of these cells, or they carry no such time")
    return Measure((tokens / seconds) / (base_tokens / base_seconds))


def _rates_quotient(sums_GCR: Floats) -> Floats:
    """The same of many sums, (G, R); not finite where either side has no rate."""
    tokens_GR, seconds_GR, base_tokens_GR, base_seconds_GR = np.moveaxis(sums_GCR, 1, 0)
    timed_GR = np.where(base_seconds_GR > 0, base_seconds_GR, math.nan)
    speedups_GR: Floats = (tokens_GR / seconds_GR) / (base_tokens_GR / timed_GR)
    return speedups_GR


def _decode_sides(pair: Pair) -> tuple[float, ...] | None:
    """Decode tokens and seconds of both sides; None where the seconds are not known: imported runs have their total."""
    ours, baseline = pair.ours, pair.baseline
    if ours.decode_s is None or baseline.decode_s is None:
        return None
    return decode_tokens(ours), ours.decode_s, decode_tokens(baseline), baseline.decode_s


SPEEDUP = Statistic(_decode_sides, _rates_quotient)


def speedup_e2e(pairs: Sequence[Pair]) -> Measure:
    """Speed-up with the prefill included: summed new tokens over summed total seconds, over AR's same quotient on
    the paired cells."""
    sides = ([p.ours for p in pairs], [p.baseline for p in pairs])
    return _quotient_of_rates(
        [total(s, field) for s in sides for field in ("new_tokens", "total_s")], "end-to-end rate"
    )


def _whole_sides(pair: Pair) -> tuple[float | None, ...]:
    return pair.ours.new_tokens, pair.ours.total_s, pair.baseline.new_tokens, pair.baseline.total_s


SPEEDUP_E2E = Statistic(_whole_sides, _rates_quotient)


def speedup_specbench(pairs: Sequence[Pair]) -> Measure:
    """Spec-Bench's formula: mean of per-question new tokens / total seconds, over the mean of AR's per-question
    retokenized tokens / total seconds. A question's turns are summed first. Spec-Bench takes each side's mean over its
    own file; here both are over the cells that both finished. Each repeat and each launch counts as one more question;
    Spec-Bench takes one run at a time, and of several the mean of their speed-ups.

    AR's own value differs from 1 where its text, encoded again, has another length. Source: Spec-Bench,
    evaluation/speed.py.
    """
    whole = _whole_questions(pairs)
    if not whole:
        return Measure(None, "no AR cell carries retokenized_tokens" if pairs else "no cell that AR finished too")
    ours, baseline = zip(*map(_specbench_rates, whole), strict=True)
    left_out = sum(p.baseline.retokenized_tokens is None for p in pairs)
    note = f"{left_out} pairs without retokenized_tokens left out" if left_out else None
    return quotient(math.fsum(ours) / len(ours), math.fsum(baseline) / len(ours), "AR produced no text", note)


def _whole_questions(pairs: Iterable[Pair]) -> list[Pair]:
    """One pair for all turns of a question in a repeat of a launch: their tokens and seconds summed."""
    turns: dict[tuple[Question, int, int], list[Pair]] = defaultdict(list)
    for p in pairs:
        if p.baseline.retokenized_tokens is not None:
            turns[question_of(p), p.ours.repeat, p.ours.launch].append(p)
    return [
        Pair(
            _summed([p.ours for p in group], "new_tokens", "total_s"),
            _summed([p.baseline for p in group], "retokenized_tokens", "total_s"),
        )
        for group in turns.values()
    ]


def _summed(records: Sequence[Record], *fields: str) -> Record:
    return records[0].model_copy(update={field: total(records, field) for field in fields})


def _specbench_rates(whole: Pair) -> tuple[float, float]:
    sides = (whole.ours.new_tokens, whole.ours.total_s), (whole.baseline.retokenized_tokens, whole.baseline.total_s)
    ours, baseline = (tokens / seconds if tokens and seconds else 0.0 for tokens, seconds in sides)
    return ours, baseline


SPEEDUP_SPECBENCH = Statistic(_specbench_rates, merged=_whole_questions)
