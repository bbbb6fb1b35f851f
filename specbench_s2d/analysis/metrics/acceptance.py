"""How much of what was drafted was accepted, and how many tokens a step gave."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from specbench_s2d.analysis.metrics.intervals import Statistic
from specbench_s2d.analysis.metrics.pairs import Question, carrying, question_of, total
from specbench_s2d.analysis.metrics.values import Measure, quotient
from specbench_s2d.runs.record import Record

_NO_STEP = "no Step: every answer is one token"
_NO_PASS = "no target pass after prefill"


DERIVED = "derived: new tokens over iterations, for the imported files hold no accept_lengths"


def _emitted(record: Record) -> tuple[float, float] | None:
    """Tokens that the Steps emitted, and Steps. An answer of EAGLE's or Medusa's files has its iterations alone: each
    adds the token before its draft and what is accepted of that, so together they add the new tokens."""
    emitted = record.emitted_per_step
    if emitted is not None:
        return float(sum(emitted)), float(len(emitted))
    if record.new_tokens is None or record.target_passes is None:
        return None
    return float(record.new_tokens), float(record.target_passes)


MAT = Statistic(_emitted)


def _committed(records: Iterable[Record]) -> tuple[list[Record], str | None]:
    """The finished records whose Steps are known, and a note where those of some are not, or are derived."""
    finished = [r for r in records if r.status == "ok"]
    known = [r for r in finished if _emitted(r)]
    if not known or len(known) < len(finished):
        return known, carrying(finished, "emitted_per_step")[1]
    return known, DERIVED if any(r.emitted_per_step is None for r in known) else None


def _sums(records: Sequence[Record]) -> tuple[float, float]:
    """Tokens and Steps of records whose Steps are known."""
    tokens, counts = zip(*filter(None, map(_emitted, records)), strict=True) if records else ((), ())
    return math.fsum(tokens), math.fsum(counts)


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
    tokens = sum(max(sum(r.emitted_per_step or []), r.new_tokens or 0) for r in kept)
    return quotient(tokens, sum(map(_iterations, kept)), _NO_STEP, note)


def _iterations(record: Record) -> int:
    """Steps, and the prefill where it gave a token and no Step gave more than one."""
    if record.emitted_per_step is None:
        return record.target_passes or 0
    emitted = record.emitted_per_step
    has_first = sum(emitted) >= (record.new_tokens or 0)
    return len(emitted) + (0 if has_first or max(emitted, default=1) > 1 else 1)


def mat_uncut(records: Iterable[Record]) -> Measure:
    """Mean acceptance length as vLLM and llama.cpp count it: 1 + accepted / drafts, over the Steps in which something
    was drafted; accepted tokens are the verdict's, before any cut at EOS or at the limit."""
    kept, note = carrying(records, "drafted_per_step", "accepted_per_step")
    steps = [s for r in kept for s in zip(r.drafted_per_step or [], r.accepted_per_step or [], strict=True) if s[0]]
    accepted = sum(accepted for _, accepted in steps)
    return quotient(len(steps) + accepted, len(steps), "nothing was drafted", note)


def mean_mat_per_question(records: Iterable[Record]) -> Measure:
    """Mean over questions of each question's own MAT, so that short answers weigh as much as long ones."""
    kept, note = _committed(records)
    by_question: dict[Question, list[Record]] = defaultdict(list)
    for record in kept:
        by_question[question_of(record)].append(record)
    known = [value for group in by_question.values() if (value := mat(group).value) is not None]
    return quotient(math.fsum(known), len(known), _NO_STEP, note)


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


def acceptance_rate(records: Sequence[Record]) -> Measure:
    """Of the drafted tokens that verification reached, the share accepted: the rate by position, pooled over
    positions. Tokens after a rejection are reached by nothing and count neither way."""
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
    proposals = [s for r in kept for s in zip(draft_levels(r), r.accepted_per_step or [], strict=True) if s[0]]
    if not proposals:
        return []
    levels, accepted = np.array(proposals).T
    positions = range(1, int(levels.max()) + 1)
    counts = [(i, int(np.sum((levels >= i) & (accepted >= i - 1))), int(np.sum(accepted >= i))) for i in positions]
    return [PositionAcceptance(*count) for count in counts if count[1]]


def draft_levels(record: Record) -> list[int]:
    """How deep each proposal was, which is how many draft passes it took; records from before trees say only how many
    tokens."""
    return (record.drafted_per_step if record.levels_per_step is None else record.levels_per_step) or []
