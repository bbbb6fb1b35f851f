"""Tokens, times, and how much faster than AR they are.

A speed-up takes groups of pairs, one group per target: of several, it is the mean of the targets' own, each weighing
alike.

Shape suffixes: G groups (one per target, or one per run), C summed columns, R values at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from specbench_s2d.analysis.metrics.intervals import Statistic, Summands, stacked
from specbench_s2d.analysis.metrics.pairs import Pair, Pairs, carrying, exact_sum, full_sum, sums_rounded_once, total
from specbench_s2d.analysis.metrics.values import Measure, quotient
from specbench_s2d.runs.columns import Asked, Floats, Records, firsts, in_order, joint
from specbench_s2d.runs.record import BASELINE, Record

Groups = Sequence[Iterable[Pair]]
_NO_TIME = "no decode time: every answer is one token, which the prefill gives"


def new_tokens(records: Iterable[Record]) -> Measure:
    """Generated ids up to and including the first EOS, capped at max-new-tokens; summed over the row."""
    return full_sum(records, "new_tokens")


def tokens_per_answer(records: Iterable[Record]) -> Measure:
    """New tokens per answer, the mean over the row's cells. Perplexities of texts of different lengths weigh different
    tokens: read them beside this, or run with --ignore-eos."""
    kept, note = carrying(records, "new_tokens")
    return quotient(total(kept, "new_tokens"), len(kept), "no answer", note)


def _length(records: Records) -> Summands:
    return stacked(records.numbers("new_tokens"), np.ones(len(records)))


LENGTH = Statistic[Record](_length)


def decode_tokens(records: Records) -> Floats:
    """New tokens that the Steps of each record made: all but the first, which the prefill gives."""
    return np.fmax(records.numbers("new_tokens") - 1, 0.0)


def tokens_per_s(records: Iterable[Record]) -> Measure:
    """Decode rate: new tokens after the first (which the prefill gives) over decode seconds, each summed."""
    kept, note = carrying(records, "new_tokens", "decode_s")
    return _rate(exact_sum(decode_tokens(kept)), total(kept, "decode_s"), note)


def _rate(done: float, seconds: float, note: str | None) -> Measure:
    """What the Steps did over their seconds; None where there was no Step, for then the seconds are of nothing."""
    return quotient(done, seconds if done else 0.0, _NO_TIME, note)


def device_spread(records: Iterable[Record]) -> Measure:
    """How far the devices of the row lie apart: the decode rate of the fastest over that of the slowest, less one, each
    over its own cells; empty for one device."""
    by_device = Records.of(records).by_value("device_id")
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
    share = _rate(total(kept, "bound_s"), total(kept, "decode_s"), note)
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


def _speedup(pairs: Iterable[Pair]) -> Measure:
    of = Pairs.of(pairs)
    sums = SPEEDUP.sums(of)
    if len(of) and not sums:
        return Measure(None, carrying(Records.joined([of.ours, of.baseline]), "decode_s")[1])
    return quotient_of_rates(sums.total_C.tolist() or [0.0] * 4, "decode rate")


def quotient_of_rates(sums: Sequence[float], what: str) -> Measure:
    """Tokens over seconds, over the baseline's."""
    tokens, seconds, base_tokens, base_seconds = sums
    if min(seconds, base_seconds) <= 0:
        return Measure(None, f"no {what} to compare: AR finished none of these cells, or they carry no such time")
    if min(tokens, base_tokens) <= 0:
        whose = f"{BASELINE}'s" if base_tokens <= 0 else "the decoder's"
        return Measure(None, f"no {what} to compare: {whose} answers are one token each, which the prefill gives")
    return Measure((tokens / seconds) / (base_tokens / base_seconds))


def _rates_quotient(sums_GCR: Floats) -> Floats:
    """The same of many sums, (G, R); not finite where either side has no rate."""
    tokens_GR, seconds_GR, base_tokens_GR, base_seconds_GR = np.moveaxis(sums_GCR, 1, 0)
    timed_GR = np.where(base_seconds_GR > 0, base_seconds_GR, math.nan)
    speedups_GR: Floats = (tokens_GR / seconds_GR) / (base_tokens_GR / timed_GR)
    return speedups_GR


def _decode_sides(pairs: Pairs) -> Summands:
    """Decode tokens and seconds of both sides, where the seconds are known: imported runs have their total."""
    return stacked(*(part for r in (pairs.ours, pairs.baseline) for part in (decode_tokens(r), r.numbers("decode_s"))))


SPEEDUP = Statistic[Pair](_decode_sides, _rates_quotient)


def speedup_e2e(pairs: Iterable[Pair]) -> Measure:
    """Speed-up with the prefill included: summed new tokens over summed total seconds, over AR's same quotient on
    the paired cells."""
    return quotient_of_rates([exact_sum(side) for side in _whole_sides(Pairs.of(pairs))[1].T], "end-to-end rate")


def _whole_sides(pairs: Pairs) -> Summands:
    return stacked(*(r.numbers(field) for r in (pairs.ours, pairs.baseline) for field in ("new_tokens", "total_s")))


SPEEDUP_E2E = Statistic[Pair](_whole_sides, _rates_quotient)


def speedup_specbench(pairs: Iterable[Pair]) -> Measure:
    """Spec-Bench's formula: mean of per-question new tokens / total seconds, over the mean of AR's per-question
    retokenized tokens / total seconds. A question's turns are summed first. Spec-Bench takes each side's mean over its
    own file; here both are over the cells that both finished. Each repeat and each launch counts as one more question;
    Spec-Bench takes one run at a time, and of several the mean of their speed-ups.

    AR's own value differs from 1 where its text, encoded again, has another length. Source: Spec-Bench,
    evaluation/speed.py.
    """
    of = Pairs.of(pairs)
    _, rates = _specbench_rates(_whole_questions(of))
    if not len(rates):
        return Measure(None, "no AR cell carries retokenized_tokens" if len(of) else "no cell that AR finished too")
    left_out = int(np.sum(~of.baseline.known("retokenized_tokens")))
    note = f"{left_out} pairs without retokenized_tokens left out" if left_out else None
    ours, baseline = (exact_sum(side) / len(rates) for side in rates.T)
    return quotient(ours, baseline, "AR produced no text", note)


@dataclass(frozen=True)
class _Whole:
    """All turns of a question in a repeat of a launch: the first of them, and their tokens and seconds summed, ours and
    AR's, (n, 4)."""

    first: Records
    sums: Floats

    @property
    def asked(self) -> Asked:
        return self.first.asked


def _whole_questions(pairs: Pairs) -> _Whole:
    kept = pairs.take(pairs.baseline.known("retokenized_tokens"))
    ours, baseline = kept.ours, kept.baseline
    places, wholes = in_order(joint([kept.questions, ours.numbers("repeat"), kept.launches]))
    summands = (
        ours.numbers("new_tokens"), ours.numbers("total_s"), baseline.numbers("retokenized_tokens"),
        baseline.numbers("total_s"),
    )  # fmt: skip
    sums = np.column_stack([sums_rounded_once(places, column, len(wholes)) for column in summands])
    return _Whole(ours.take(firsts(places, len(wholes))), sums)


def _specbench_rates(whole: _Whole) -> Summands:
    tokens, seconds = whole.sums[:, ::2], whole.sums[:, 1::2]
    timed = (tokens != 0) & (seconds != 0)
    return stacked(*np.divide(tokens, seconds, out=np.zeros(tokens.shape), where=timed).T)


SPEEDUP_SPECBENCH = Statistic[Pair](_specbench_rates, merged=_whole_questions)
