"""What every reported number means: the one home of each definition, as pure functions of records.

A function takes the records of one table row (any status: only those with status ok are used) and returns a
`Measure`, whose value is None, with the reason, where nothing can be said. Its docstring's first paragraph *is*
the definition: `definitions.DEFINITIONS` collects them by column for the README and the reports.

Shape suffixes: G groups (one per target, or one per run), C summed columns, R resamples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from specbench_s2d.analysis.metrics import bootstrap
from specbench_s2d.analysis.metrics.bootstrap import LEVEL, RESAMPLES, Floats, Sums
from specbench_s2d.analysis.metrics.columns import Interval, Measure, defines
from specbench_s2d.runs.record import Record

Question = tuple[str, int | str]


@dataclass(frozen=True)
class PositionAcceptance:
    """One draft position (from 1): proposals that reached it, and those accepted there."""

    position: int
    reached: int
    accepted: int


@dataclass(frozen=True)
class Pair:
    """A decoder's record and the baseline's (AR's, or that of the decoder it is compared with) of the same target,
    question, turn and repeat; both finished, both timed."""

    ours: Record
    baseline: Record


def question_of(record: Record) -> Question:
    """What counts as one question, whatever the turns and repeats."""
    return record.suite, record.question_id


def carrying(records: Iterable[Record], *fields: str) -> tuple[list[Record], str | None]:
    """The finished records that carry all `fields`, and a note (with the records' reasons) where some do not."""
    finished = [r for r in records if r.status == "ok"]
    if not finished:
        return [], "no cell finished"
    kept = [r for r in finished if all(getattr(r, field) is not None for field in fields)]
    if len(kept) == len(finished):
        return kept, None
    reasons = {r.reasons[f] for r in finished for f in fields if getattr(r, f) is None and f in r.reasons}
    missing = f"{len(finished) - len(kept)} of {len(finished)} cells carry no {' or '.join(fields)}"
    return kept, f"{missing} ({', '.join(sorted(reasons))})" if reasons else missing


def total(records: Iterable[Record], field: str) -> float:
    """The sum of a number (or of a list of numbers) over records that carry it."""
    values = [getattr(r, field) for r in records]
    return float(math.fsum(sum(v) if isinstance(v, list) else v for v in values))


def full_sum(records: Iterable[Record], field: str) -> Measure:
    """A sum over the finished records; None unless every one of them carries the field."""
    kept, note = carrying(records, field)
    return Measure(None, note) if note else Measure(total(kept, field))


def _ratio(numerator: float, denominator: float, nothing: str, note: str | None = None) -> Measure:
    """A quotient; None with the reason `nothing` (or `note`) where the denominator is zero."""
    return Measure(numerator / denominator, note) if denominator > 0 else Measure(None, note or nothing)


def _by_question(records: Iterable[Record]) -> list[list[Record]]:
    groups: dict[Question, list[Record]] = defaultdict(list)
    for record in records:
        groups[question_of(record)].append(record)
    return list(groups.values())


@defines("new_tokens")
def new_tokens(records: Iterable[Record]) -> Measure:
    """Generated ids up to and including the first EOS, capped at max-new-tokens; summed over the row."""
    return full_sum(records, "new_tokens")


@defines("tokens_per_answer")
def tokens_per_answer(records: Iterable[Record]) -> Measure:
    """New tokens per answer, the mean over the row's cells. Perplexities of texts of different lengths weigh different
    tokens: read them beside this, or run with --ignore-eos."""
    kept, note = carrying(records, "new_tokens")
    return _ratio(total(kept, "new_tokens"), len(kept), "no answer", note)


def decode_tokens(record: Record) -> int:
    """New tokens that the Steps made: all but the first, which the prefill gives."""
    return max((record.new_tokens or 0) - 1, 0)


def _decode_tokens(records: Iterable[Record]) -> float:
    return float(sum(decode_tokens(r) for r in records))


@defines("tokens_per_s")
def tokens_per_s(records: Iterable[Record]) -> Measure:
    """Decode rate: new tokens after the first (which the prefill gives) over decode seconds, each summed."""
    kept, note = carrying(records, "new_tokens", "decode_s")
    return _ratio(_decode_tokens(kept), total(kept, "decode_s"), "no decode time: every answer is one token", note)


@defines("percent_of_bound")
def percent_of_bound(records: Iterable[Record]) -> Measure:
    """Tokens/s as a share of the bound: the seconds in which the Steps' passes could have read their weights and caches
    at the device's measured read rate, over the decode seconds, in per cent. Above 100 the weights came from a cache
    nearer than memory."""
    kept, note = carrying(records, "bound_s", "decode_s")
    share = _ratio(total(kept, "bound_s"), total(kept, "decode_s"), "no decode time: every answer is one token", note)
    return share if share.value is None else Measure(100 * share.value, share.note)


@defines("mat")
def mat(records: Iterable[Record]) -> Measure:
    """Mean accepted tokens: emitted tokens per Step, the bonus token included, pooled over all Steps as in
    Spec-Bench (AR: exactly 1). A method whose Step takes several target passes (joint greedy decoding) accepts nothing:
    there it is the length of its block, and tokens per pass say more."""
    kept, note = carrying(records, "emitted_per_step")
    steps = sum(len(r.emitted_per_step or []) for r in kept)
    return _ratio(total(kept, "emitted_per_step"), steps, "no Step: every answer is one token", note)


@defines("mean_mat_per_question")
def mean_mat_per_question(records: Iterable[Record]) -> Measure:
    """Mean over questions of each question's own MAT, so that short answers weigh as much as long ones."""
    kept, note = carrying(records, "emitted_per_step")
    values = [mat(group).value for group in _by_question(kept)]
    known = [value for value in values if value is not None]
    return _ratio(math.fsum(known), len(known), "no Step: every answer is one token", note)


@defines("accepted_per_pass")
def accepted_per_pass(records: Iterable[Record]) -> Measure:
    """Drafted tokens accepted per target pass of the Steps, the bonus token left out (AR: 0): the verdicts' counts,
    before any cut at EOS or at the limit."""
    kept, note = carrying(records, "accepted_per_step", "target_passes")
    return _ratio(total(kept, "accepted_per_step"), total(kept, "target_passes"), "no target pass after prefill", note)


def acceptance_by_position(records: Iterable[Record]) -> list[PositionAcceptance]:
    """Of the proposals that reached draft position i, those accepted there.

    A proposal reaches position i (from 1) when it was at least i tokens deep and the i - 1 before were accepted. A
    tree is as deep as its levels, a chain as its tokens. Acceptance is the verdict's, before any cut at EOS or at the
    limit.
    """
    kept, _ = carrying(records, "drafted_per_step", "accepted_per_step")
    steps = [step for r in kept for step in zip(draft_levels(r), r.accepted_per_step or [], strict=True) if step[0]]
    if not steps:
        return []
    levels, accepted = np.array(steps).T
    positions = range(1, int(levels.max()) + 1)
    counts = [(i, int(np.sum((levels >= i) & (accepted >= i - 1))), int(np.sum(accepted >= i))) for i in positions]
    return [PositionAcceptance(*count) for count in counts if count[1]]


def draft_levels(record: Record) -> list[int]:
    """How deep each proposal was, which is how many draft passes it took; records from before trees say only how many
    tokens."""
    return (record.drafted_per_step if record.levels_per_step is None else record.levels_per_step) or []


@defines("tokens_per_pass")
def tokens_per_pass(records: Iterable[Record]) -> Measure:
    """Tokens that the Steps emitted over the target passes that they took (AR: exactly 1; joint greedy decoding, k
    passes for k tokens, at most 1; a speculative decoder, one pass a Step: MAT)."""
    kept, note = carrying(records, "emitted_per_step", "target_passes")
    return _ratio(total(kept, "emitted_per_step"), total(kept, "target_passes"), "no target pass after prefill", note)


@defines("acceptance_rate")
def acceptance_rate(records: Sequence[Record]) -> Measure:
    """Of the drafted tokens that verification reached, the share accepted: the rate by position, pooled over
    positions. Tokens after a rejection are reached by nothing and count neither way."""
    _, note = carrying(records, "drafted_per_step", "accepted_per_step")
    positions = acceptance_by_position(records)
    accepted, reached = (sum(p.accepted for p in positions), sum(p.reached for p in positions))
    return _ratio(accepted, reached, "nothing was drafted", note)


@defines("perplexity")
def perplexity(records: Iterable[Record]) -> Measure:
    """exp of the summed negative log-likelihood over new tokens, pooled over the row's tokens, under the target
    at temperature 1."""
    kept, note = carrying(records, "nll_sum", "new_tokens")
    mean = _ratio(total(kept, "nll_sum"), total(kept, "new_tokens"), "no new token", note)
    return mean if mean.value is None else Measure(math.exp(mean.value), note)


def pair(records: Iterable[Record], baseline: Iterable[Record]) -> list[Pair]:
    """Match a decoder's records with the baseline's by target, question, turn and repeat, in the decoder's order.

    A record that failed, was skipped or carries no total time has no pair, and neither has its partner. Decode times
    may be missing (imported runs): figures that want them leave such pairs out.
    """
    fields = ("new_tokens", "total_s")
    partners = {_cell(r): r for r in carrying(baseline, *fields)[0]}
    return [Pair(r, partners[_cell(r)]) for r in carrying(records, *fields)[0] if _cell(r) in partners]


def _cell(record: Record) -> tuple[str, str, int | str, int, int]:
    return record.target, record.suite, record.question_id, record.turn, record.repeat


def _quotient_of_rates(ours: tuple[float, float], baseline: tuple[float, float], what: str) -> Measure:
    """(tokens, seconds) over (tokens, seconds), both as rates."""
    (tokens, seconds), (base_tokens, base_seconds) = ours, baseline
    if min(seconds, base_seconds, base_tokens) <= 0:
        return Measure(None, f"no {what} to compare: AR finished none of these cells, or they carry no such time")
    return Measure((tokens / seconds) / (base_tokens / base_seconds))


@defines("speedup")
def speedup(pairs: Sequence[Pair]) -> Measure:
    """Decode tokens/s over AR's on the same target, questions and device, over the paired cells: each side's rate
    is its summed new tokens after the first over its summed decode seconds."""
    tokens, seconds, base_tokens, base_seconds = sum(_speed_sums(pairs).values(), np.zeros(4)).tolist()
    _, untimed = carrying([record for p in pairs for record in (p.ours, p.baseline)], "decode_s")
    if pairs and untimed and not _decode_timed(pairs):
        return Measure(None, untimed)
    return _quotient_of_rates((tokens, seconds), (base_tokens, base_seconds), "decode rate")


def _decode_timed(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs whose decode seconds are known on both sides: imported ones have but their total."""
    return [p for p in pairs if p.ours.decode_s is not None and p.baseline.decode_s is not None]


@defines("speedup_e2e")
def speedup_e2e(pairs: Sequence[Pair]) -> Measure:
    """Speed-up with the prefill included: summed new tokens over summed total seconds, over AR's same quotient on
    the paired cells."""
    ours, baseline = [p.ours for p in pairs], [p.baseline for p in pairs]
    return _quotient_of_rates(_end_to_end(ours), _end_to_end(baseline), "end-to-end rate")


def rate_e2e(records: Iterable[Record]) -> Measure:
    """New tokens over total seconds, the prefill's included, each summed."""
    kept, note = carrying(records, "new_tokens", "total_s")
    tokens, seconds = _end_to_end(kept)
    return _ratio(tokens, seconds, "no time", note)


def _end_to_end(records: Sequence[Record]) -> tuple[float, float]:
    return total(records, "new_tokens"), total(records, "total_s")


@defines("speedup_specbench")
def speedup_specbench(pairs: Sequence[Pair]) -> Measure:
    """Spec-Bench's formula: mean of per-question new tokens / total seconds, over the mean of AR's per-question
    retokenized tokens / total seconds. A question's turns are summed first; each repeat counts as a question.

    AR's own value differs from 1 where its text, encoded again, has another length. Source: Spec-Bench,
    evaluation/speed.py.
    """
    kept = [p for p in pairs if p.baseline.retokenized_tokens is not None]
    if not kept:
        return Measure(None, "no AR cell carries retokenized_tokens" if pairs else "no cell that AR finished too")
    groups: dict[tuple[Question, int], list[Pair]] = defaultdict(list)
    for p in kept:
        groups[question_of(p.ours), p.ours.repeat].append(p)
    ours = [_mean_rate([p.ours for p in group], "new_tokens") for group in groups.values()]
    baseline = [_mean_rate([p.baseline for p in group], "retokenized_tokens") for group in groups.values()]
    note = f"{len(pairs) - len(kept)} pairs without retokenized_tokens left out" if len(kept) < len(pairs) else None
    return _ratio(math.fsum(ours) / len(ours), math.fsum(baseline) / len(ours), "AR produced no text", note)


def speedup_e2e_interval(pairs: Sequence[Pair], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """95 % percentile interval of `speedup_e2e`: paired bootstrap over questions."""
    sums = bootstrap.question_sums(
        pairs,
        lambda p: question_of(p.ours),
        lambda p: (p.ours.new_tokens, p.ours.total_s, p.baseline.new_tokens, p.baseline.total_s),
    )
    return bootstrap.interval([sums], lambda sums_GCR: _speedups(sums_GCR)[0], resamples, seed=seed)


def speedup_specbench_interval(pairs: Sequence[Pair], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """95 % percentile interval of `speedup_specbench`: paired bootstrap over questions, of each both sides' rates."""
    groups: dict[tuple[Question, int], list[Pair]] = defaultdict(list)
    for p in (p for p in pairs if p.baseline.retokenized_tokens is not None):
        groups[question_of(p.ours), p.ours.repeat].append(p)
    sums = bootstrap.question_sums(
        groups.items(),
        lambda item: item[0][0],
        lambda item: (
            _mean_rate([p.ours for p in item[1]], "new_tokens"),
            _mean_rate([p.baseline for p in item[1]], "retokenized_tokens"),
        ),
    )
    return bootstrap.interval([sums], lambda sums_GCR: sums_GCR[0, 0] / sums_GCR[0, 1], resamples, seed=seed)


def _mean_rate(records: Sequence[Record], tokens: str) -> float:
    seconds = total(records, "total_s")
    return total(records, tokens) / seconds if seconds > 0 else 0.0


def speedup_interval(
    pairs: Sequence[Pair], resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Percentile interval of `speedup` from a paired bootstrap over questions.

    A resample draws as many questions as there are, with replacement, and takes both decoders' cells of each
    (all turns and repeats), so that a hard question weighs on both sides alike. None below two questions.
    """
    return mean_speedup_interval([pairs], resamples, level, seed)


def mean_speedup(groups: Sequence[Sequence[Pair]]) -> Measure:
    """The arithmetic mean of the groups' speed-ups, each target weighing alike; None unless every group has one."""
    values = [speedup(pairs).value for pairs in groups]
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return Measure(None, f"no mean: {len(values) - len(known)} of {len(values)} targets have no speed-up")
    return Measure(math.fsum(known) / len(known))


def mean_speedup_interval(
    groups: Sequence[Sequence[Pair]], resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Percentile interval of `mean_speedup`: each resample draws questions once and applies the draw to every target
    alike, for the same questions are asked of all."""
    sums = [_speed_sums(pairs) for pairs in groups]
    return bootstrap.interval(sums, lambda sums_GCR: _speedups(sums_GCR).mean(axis=0), resamples, level, seed)


def speedup_ratio(ours: Sequence[Sequence[Pair]], theirs: Sequence[Sequence[Pair]]) -> Measure:
    """One speed-up (or mean over targets of speed-ups) over another, each over the baseline of its own run."""
    over, under = mean_speedup(ours), mean_speedup(theirs)
    if over.value is None or under.value is None:
        return Measure(None, over.note or under.note)
    return _ratio(over.value, under.value, "no ratio: the other speed-up is 0")


def speedup_ratio_interval(
    ours: Sequence[Sequence[Pair]],
    theirs: Sequence[Sequence[Pair]],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Percentile interval of `speedup_ratio`: each resample draws questions once, for both sides and all targets."""

    def quotient(sums_GCR: Floats) -> Floats:
        speedups_GR = _speedups(sums_GCR)
        quotients: Floats = speedups_GR[: len(ours)].mean(axis=0) / speedups_GR[len(ours) :].mean(axis=0)
        return quotients

    return bootstrap.interval([_speed_sums(pairs) for pairs in (*ours, *theirs)], quotient, resamples, level, seed)


def _speedups(sums_GCR: Floats) -> Floats:
    """Speed-ups (G, R) from `_speed_sums`; not finite where either side has no rate."""
    tokens_GR, seconds_GR, base_tokens_GR, base_seconds_GR = np.moveaxis(sums_GCR, 1, 0)
    timed_GR = np.where(base_seconds_GR > 0, base_seconds_GR, math.nan)
    speedups_GR: Floats = (tokens_GR / seconds_GR) / (base_tokens_GR / timed_GR)
    return speedups_GR


def _speed_sums(pairs: Sequence[Pair]) -> Sums:
    """Per question: decode tokens, decode seconds, the baseline's decode tokens, its decode seconds."""
    return bootstrap.question_sums(
        _decode_timed(pairs),
        lambda p: question_of(p.ours),
        lambda p: (decode_tokens(p.ours), p.ours.decode_s, decode_tokens(p.baseline), p.baseline.decode_s),
    )
