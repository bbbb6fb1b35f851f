"""How much of what was drafted was accepted, and how many tokens a step gave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specbench_s2d.analysis.metrics.intervals import Statistic, Summands, stacked
from specbench_s2d.analysis.metrics.pairs import carrying, exact_sum, total
from specbench_s2d.analysis.metrics.values import Measure, quotient
from specbench_s2d.runs.columns import Columns, Floats, Ints, Records, in_order
from specbench_s2d.runs.record import Record

_NO_STEP = "no Step: every answer is one token"
_NO_PASS = "no target pass after prefill"


DERIVED = "derived: new tokens over iterations, for the imported files hold no accept_lengths"


def _emitted(records: Records) -> Summands:
    """Tokens that the Steps emitted, and Steps. An answer of EAGLE's or Medusa's files has its iterations alone: each
    adds the token before its draft and what is accepted of that, so together they add the new tokens."""
    has = records.known("emitted_per_step")
    tokens = np.where(has, records.sums("emitted_per_step"), records.numbers("new_tokens"))
    return stacked(tokens, np.where(has, records.lengths("emitted_per_step"), records.numbers("target_passes")))


MAT = Statistic[Record](_emitted)


def _committed(records: Iterable[Record]) -> tuple[Records, str | None]:
    """The finished records whose Steps are known, and a note where those of some are not, or are derived."""
    finished = Records.of(records).finished
    known = finished.take(_emitted(finished)[0])
    if not len(known) or len(known) < len(finished):
        return known, carrying(finished, "emitted_per_step")[1]
    return known, None if known.known("emitted_per_step").all() else DERIVED


def _sums(records: Records) -> tuple[float, float]:
    """Tokens and Steps of records whose Steps are known."""
    tokens, counts = _emitted(records)[1].T
    return exact_sum(tokens), exact_sum(counts)


def steps(records: Iterable[Record]) -> Measure:
    """Commits after the prefill, all cells together."""
    kept, note = _committed(records)
    return Measure(None, note) if note not in (None, DERIVED) else Measure(int(_sums(kept)[1]), note)


def mat(records: Iterable[Record]) -> Measure:
    """Mean accepted tokens: emitted tokens per Step, the bonus token included, pooled over all Steps (AR: exactly 1).
    The first token, which the prefill gives, is in no Step, and what EOS or the limit cut off does not count; others
    count otherwise (`mat_specbench`, `mat_uncut`). A method whose Step takes several target passes (joint greedy
    decoding) accepts nothing: there it is the length of its block, and tokens per pass say more."""
    kept, note = _committed(records)
    return quotient(*_sums(kept), _NO_STEP, note)


def mat_specbench(records: Iterable[Record]) -> Measure:
    """Mean accepted tokens as Spec-Bench counts them: all new tokens over iterations, the first token, which the
    prefill gives, being the first iteration's; in an answer whose Steps added one token each (AR: exactly 1), the
    prefill is an iteration of its own. Papers that measure with Spec-Bench's code, S2D among them, print this one; it
    is above `mat`, the more so the shorter the answers.

    Source: Spec-Bench, evaluation/speed.py (the mean of `accept_lengths`); imported answers hold that first token.
    """
    kept, note = _committed(records)
    tokens = np.fmax(_or_0(kept.sums("emitted_per_step")), _or_0(kept.numbers("new_tokens")))
    return quotient(exact_sum(tokens), exact_sum(_iterations(kept)), _NO_STEP, note)


def _iterations(records: Records) -> Floats:
    """Steps, and the prefill where it gave a token and no Step gave more than one."""
    has_first = records.sums("emitted_per_step") >= _or_0(records.numbers("new_tokens"))
    most = records.columns.once("most emitted", lambda: _most_emitted(records.columns))[records.rows]
    steps = records.lengths("emitted_per_step") + ~(has_first | (most > 1))
    return np.where(records.known("emitted_per_step"), steps, _or_0(records.numbers("target_passes")))


def _most_emitted(columns: Columns) -> Floats:
    """The most tokens that a Step of each row emitted, 1 where it has no Step."""
    most, lengths = np.ones(columns.table.num_rows), np.nan_to_num(columns.lengths("emitted_per_step")).astype(np.int64)
    np.maximum.at(most, np.repeat(np.arange(len(most)), lengths), columns.entries("emitted_per_step"))
    return most


def _or_0(values: Floats) -> Floats:
    return np.nan_to_num(values)


def mat_uncut(records: Iterable[Record]) -> Measure:
    """Mean acceptance length as vLLM and llama.cpp count it: 1 + accepted / drafts, over the Steps in which something
    was drafted; accepted tokens are the verdict's, before any cut at EOS or at the limit."""
    kept, note = carrying(records, "drafted_per_step", "accepted_per_step")
    drafted, accepted = kept.entries("drafted_per_step", "accepted_per_step")
    steps = int(np.count_nonzero(drafted))
    return quotient(steps + int(accepted[drafted > 0].sum()), steps, "nothing was drafted", note)


def mean_mat_per_question(records: Iterable[Record]) -> Measure:
    """Mean over questions of each question's own MAT, so that short answers weigh as much as long ones."""
    kept, note = _committed(records)
    places, questions = in_order(kept.questions)
    tokens, steps = (np.bincount(places, column, len(questions)) for column in _emitted(kept)[1].T)
    known = tokens[steps > 0] / steps[steps > 0]
    return quotient(exact_sum(known), len(known), _NO_STEP, note)


def tokens_per_pass(records: Iterable[Record]) -> Measure:
    """Tokens that the Steps emitted over the target passes that they took (AR: exactly 1; joint greedy decoding, k
    passes for k tokens, at most 1; a speculative decoder, one pass a Step: MAT)."""
    kept, note = carrying(records, "emitted_per_step", "target_passes")
    return quotient(total(kept, "emitted_per_step"), total(kept, "target_passes"), _NO_PASS, note)


def accepted_per_pass(records: Iterable[Record]) -> Measure:
    """Drafted tokens accepted per target pass of the Steps, the bonus token left out (AR: 0): the verdicts' counts,
    before any cut at EOS or at the limit."""
    kept, note = carrying(records, "accepted_per_step", "target_passes")
    return quotient(total(kept, "accepted_per_step"), total(kept, "target_passes"), _NO_PASS, note)


def acceptance_rate(records: Iterable[Record]) -> Measure:
    """Of the drafted tokens that verification reached, the share accepted: the rate by position, pooled over
    positions. Tokens after a rejection are reached by nothing and count neither way."""
    records = Records.of(records)
    _, note = carrying(records, "drafted_per_step", "accepted_per_step")
    positions = acceptance_by_position(records)
    accepted, reached = (sum(p.accepted for p in positions), sum(p.reached for p in positions))
    return quotient(accepted, reached, "nothing was drafted", note)


@dataclass(frozen=True)
class PositionAcceptance:
    """One draft position (from 1): proposals that reached it, and those accepted there."""

    position: int
    reached: int
    accepted: int


def acceptance_by_position(records: Iterable[Record]) -> list[PositionAcceptance]:
    """Of the proposals that reached draft position i, those accepted there.

    A proposal reaches position i (from 1) when it was at least i tokens deep and the i - 1 before were accepted. A
    tree is as deep as its levels, a chain as its tokens. Acceptance is the verdict's, before any cut at EOS or at the
    limit.
    """
    kept, _ = carrying(records, "drafted_per_step", "accepted_per_step")
    has_levels = kept.known("levels_per_step")
    found = [
        kept.take(mask).entries(field, "accepted_per_step")
        for field, mask in (("levels_per_step", has_levels), ("drafted_per_step", ~has_levels))
    ]
    levels, accepted = (np.concatenate(side) for side in zip(*found, strict=True))
    proposed = levels > 0
    reached = _at_least(np.minimum(levels[proposed], accepted[proposed] + 1))
    taken = _at_least(accepted[proposed])
    counts = [(i, int(reached[i]), int(taken[i]) if i < len(taken) else 0) for i in range(1, len(reached))]
    return [PositionAcceptance(*count) for count in counts if count[1]]


def _at_least(values: NDArray[np.int32]) -> Ints:
    """How many of the values are at least 0, 1, 2 and so on."""
    return np.cumsum(np.bincount(values)[::-1])[::-1]


def draft_levels(records: Records) -> Floats:
    """How deep the proposals of each record were together, which is how many draft passes they took; records from
    before trees say only how many tokens."""
    levels, tokens = records.sums("levels_per_step"), records.sums("drafted_per_step")
    return _or_0(np.where(np.isnan(levels), tokens, levels))
