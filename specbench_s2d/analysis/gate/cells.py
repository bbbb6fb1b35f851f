"""Cell by cell: are all there, are the outputs the same, and were the same drafts accepted?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

import numpy as np

from specbench_s2d.analysis.gate.verdict import Check, Tolerances, Verdict
from specbench_s2d.analysis.metrics.pairs import Pair, Pairs, sought
from specbench_s2d.runs.columns import VERDICT, Columns, Ints, Mask, Records, joint
from specbench_s2d.runs.record import BASELINE

_NAMED = 3  # cells named in a line; the rest is counted
_STEPS = ("accepted_per_step", "emitted_per_step")
Place = tuple[Records, int, int]
"""A record by its place among others, and the launch whose cell is meant."""


def with_ids(both: Pairs) -> Mask:
    """Whether there are ids to compare on both sides."""
    return both.ours.known("output_ids") & both.baseline.known("output_ids")


def same_ids(both: Pairs) -> Mask:
    """Whether both sides have the same ids."""
    same: Mask = both.ours.codes("output_ids") == both.baseline.codes("output_ids")
    return with_ids(both) & same


def same_prompt(both: Pairs) -> Mask:
    """Unless hashes say otherwise: the runs have the same questions."""
    ours, base = both.ours.codes("prompt_hash"), both.baseline.codes("prompt_hash")
    same: Mask = (ours == base) | (ours < 0) | (base < 0)
    return same


@dataclass(frozen=True)
class Row:
    """One target and label of both runs: all launches of ours, one of the baseline's, as rows of the same columns.
    `launches`: how many ours has."""

    target: str
    label: str
    ours: Records
    base: Records
    launches: int = 1

    @property
    def lossy(self) -> bool:
        return bool(self.base.numbers("lossy").any())

    @property
    def drafts(self) -> bool:
        """Whether the baseline drafted, or did not record what it drafted; AR never does."""
        return self.label != BASELINE and bool((self.base.finished.sums("drafted_per_step") != 0).any())

    @cached_property
    def alike(self) -> Pairs:
        """The cells whose values must agree: of equal ids, or of ids that neither run carries."""
        return self.common.take(same_ids(self.common) | ~with_ids(self.common))

    @cached_property
    def finished(self) -> Pairs:
        """The cells that both runs finished."""
        ours, base = self.ours.finished, self.base.finished
        order = np.argsort(_asked(base), kind="stable")
        found, places = sought(_asked(ours), _asked(base)[order])
        return Pairs(ours.take(found), base.take(order[places]))

    @cached_property
    def common(self) -> Pairs:
        """The cells to compare: finished in both and asked the same prompt. An earlier turn may have parted."""
        return self.finished.take(same_prompt(self.finished))


def rows(ours: Records, base: Records, repeats: int, launches: int = 1) -> list[Row]:
    """The baseline's rows, the first `repeats` of its repeats in its first launch, with all that this run's `launches`
    have of each."""
    first = base.launches.min(initial=np.iinfo(np.int64).max)
    wanted = base.take((base.numbers("repeat") < repeats) & (base.launches == first))
    mine = {_name(group): group for group in ours.groups("target", "label")}
    return [
        Row(*_name(group), mine.get(_name(group), ours[:0]), group, launches)
        for group in wanted.groups("target", "label")
    ]


def _name(group: Records) -> tuple[str, str]:
    return group.value("target"), group.value("label")


def _once(records: Records, name: str, *fields: str) -> Ints:
    """A number for each combination of suite, question and some numbers."""

    def make(columns: Columns = records.columns) -> Ints:
        return joint([columns.codes("target"), columns.questions, *(columns.numbers(field) for field in fields)])

    numbers: Ints = records.columns.once(name, make)
    return numbers[records.rows]


def _asked(records: Records) -> Ints:
    """What was decoded, in whichever launch."""
    return _once(records, "asked", "turn", "repeat")


def same_work(row: Row, source: Row) -> Iterator[Check]:
    """Whether a row did what the baseline's did, and its own run's audit found nothing wrong."""
    asked = prompts(row, source)
    yield completeness(row)
    yield from [asked] if asked else []
    yield audit(row)


def anything_compared(row: Row, judged: Iterable[Check]) -> Iterator[Check]:
    """A row of which no value could be compared is incomplete: nothing was shown of it."""
    if len(row.base.finished) and all(check.verdict == "not judged" for check in judged):
        yield Check("evidence", "incomplete", row.target, row.label, why="no value of it could be compared")


def completeness(row: Row) -> Check:
    """Every cell that the baseline finished is finished here, in every launch; a failure is a regression, a gap leaves
    the run incomplete."""
    wanted = row.base.finished
    failed, absent = list[tuple[Records, int]](), list[tuple[Records, int]]()
    for launch in range(row.launches):
        mine = row.ours.take(row.ours.launches == launch)
        lost, done = mine.of_value("status", "failed"), mine.finished
        has_failed, has_finished = (np.isin(_asked(wanted), _asked(part)) for part in (lost, done))
        failed.append((wanted.take(has_failed), launch))
        absent.append((wanted.take(~has_failed & ~has_finished), launch))
    total = row.launches * len(wanted)
    if not total:
        return Check("cells", "not judged", row.target, row.label, why="the baseline finished none")
    outcomes: list[tuple[Verdict, list[tuple[Records, int]], str]] = [
        ("regressed", failed, "failed"),
        ("incomplete", absent, "missing or skipped"),
    ]
    for verdict, parts, what in outcomes:
        if count := sum(len(part) for part, _ in parts):
            places = chain.from_iterable(_places(part, launch) for part, launch in parts)
            return _check(row, "cells", verdict, places, count, what, total)
    return Check("cells", "holds", row.target, row.label, f"{total} finished", f"{total} finished")


def prompts(row: Row, source: Row) -> Check | None:
    """A prompt differs only after an answer that does; `source`: the row whose answers are carried into later turns.

    Anything else is another template or tokenizer, and the runs did not do the same. None where all are the same.
    """
    moved = row.finished.take(~same_prompt(row.finished))
    alone = moved.ours.take(~_after_another(moved.ours, source.finished.ours.take(~same_ids(source.finished))))
    if len(alone):
        what = "differ though no earlier answer does"
        return _check(row, "prompts", "incomparable", _places(alone), len(alone), what, len(row.finished))
    counted = f"{len(moved)} of {len(row.finished)} differ"
    why = "an earlier answer parted: these cells are not compared"
    return Check("prompts", "holds", row.target, row.label, counted, why=why) if len(moved) else None


def _after_another(records: Records, parted: Records) -> Mask:
    """Whether an earlier turn of the same conversation is among the answers that parted."""
    earliest: dict[int, float] = {}
    for talk, turn in zip(_talks(parted).tolist(), parted.numbers("turn").tolist(), strict=True):
        earliest[talk] = min(turn, earliest.get(talk, turn))
    first = np.array([earliest.get(talk, np.inf) for talk in _talks(records).tolist()])
    return first < records.numbers("turn")


def _talks(records: Records) -> Ints:
    """The conversation that each turn is of."""
    return _once(records, "talks", "repeat", "launch")


def audit(row: Row) -> Check:
    """No output that its own run's audit calls a mismatch, in any repeat."""
    audited, common = row.ours.take(row.ours.known(VERDICT)), row.common
    wrong, ties = audited.of_value(VERDICT, "mismatch"), audited.of_value(VERDICT, "near_tie")
    if len(wrong):
        return _check(row, "audit", "regressed", _places(wrong), len(wrong), "mismatched", len(audited))
    lost = common.ours.take(common.baseline.known(VERDICT) & ~common.ours.known(VERDICT))
    if len(lost):
        return _check(row, "audit", "incomplete", _places(lost), len(lost), "not audited", len(common))
    if not len(audited):
        reasons = dict.fromkeys(r["divergence"] for r in row.ours.distinct("reasons") if "divergence" in r)
        why = "; ".join(reasons) or "not audited"
        return Check("audit", "not judged", row.target, row.label, why=why)
    return Check("audit", "holds", row.target, row.label, f"{len(audited)} audited, {len(ties)} near-ties")


def outputs(row: Row, tolerances: Tolerances, greedy: bool) -> Check:
    """Greedy ids are the baseline's; an output may part at a near-tie, and a few lossy ones anywhere."""
    if not greedy:
        return Check("output ids", "not judged", row.target, row.label, why="only greedy outputs are compared")
    common = row.common
    both = common.take(with_ids(common))
    moved = both.take(~same_ids(both))
    wrong = moved.take(np.array([not _parts_at_a_tie(pair) for pair in moved], dtype=np.bool_))
    if len(wrong) and not (row.lossy and len(wrong) <= tolerances.moved_cells * len(both)):
        where = f"first at token {parting(next(iter(wrong)))}: "
        return _check(
            row, "output ids", "regressed", _places(wrong.ours), len(wrong), "differ", len(both), where
        )  # fmt: skip
    lost = common.ours.take(~common.ours.known("output_ids") & common.baseline.known("output_ids"))
    if len(lost):
        return _check(row, "output ids", "incomplete", _places(lost), len(lost), "carry no ids", len(common))
    if not len(both) or len(both) < len(common):
        why = f"{len(both)} of {len(common)} cells of the same prompt carry ids in the baseline"
        return Check("output ids", "not judged", row.target, row.label, why=why)
    excused = f", {len(wrong)} within the share allowed" if len(wrong) else ""
    allowed = f"{len(moved) - len(wrong)} at near-ties{excused}"
    why = f"{len(moved)} of {len(both)} differ: {allowed}" if len(moved) else ""
    return Check("output ids", "holds", row.target, row.label, f"{len(both) - len(moved)} equal", f"{len(both)}", why)


def parting(both: Pair) -> int:
    """The first position, from 0, at which two outputs differ, which may be the end of the shorter."""
    mine, theirs = both.ours.output_ids or [], both.baseline.output_ids or []
    shorter = min(len(mine), len(theirs))
    return next((i for i in range(shorter) if mine[i] != theirs[i]), shorter)


def _parts_at_a_tie(both: Pair) -> bool:
    """Whether two outputs first part where either run found the two best logits within the noise. An output that
    breaks off has no tie to excuse it."""
    place = parting(both)
    goes_on = all(place < len(record.output_ids or []) for record in (both.ours, both.baseline))
    return goes_on and any(place in (record.tie_positions or ()) for record in (both.ours, both.baseline))


def acceptance(row: Row, exact: bool) -> Check | None:
    """On one machine: where the ids are equal, every step accepted and emitted what it did. None for what drafts
    nothing."""
    if not row.drafts:
        return None
    common = row.common
    known = [side.known(field) for side in (common.ours, common.baseline) for field in _STEPS]
    both = common.take(np.logical_and.reduce([same_ids(common), *known]))
    if not exact or not len(both):
        why = "another machine's drafts may part at ties of their own: see MAT" if len(both) else "no cell of equal ids"
        return Check("acceptance", "not judged", row.target, row.label, why=why)
    moved = both.ours.take(~np.logical_and.reduce([_same_lists(both, field) for field in _STEPS]))
    if len(moved):
        return _check(row, "acceptance", "regressed", _places(moved), len(moved), "accept otherwise", len(both))
    return Check("acceptance", "holds", row.target, row.label, f"{len(both)} equal", f"{len(both)}")


def _same_lists(both: Pairs, field: str) -> Mask:
    """Whether both sides' lists are equal, entry by entry."""
    same: Mask = both.ours.lengths(field) == both.baseline.lengths(field)
    as_long = both.take(same)
    [mine], [theirs] = as_long.ours.entries(field), as_long.baseline.entries(field)
    owners = np.repeat(np.flatnonzero(same), as_long.ours.lengths(field).astype(np.int64))
    same[owners[mine != theirs]] = False
    return same


def _places(records: Records, launch: int | None = None) -> Iterator[Place]:
    """Each record with its launch, or with the one whose cell is meant."""
    launches = records.launches if launch is None else np.full(len(records), launch)
    return ((records, i, int(of)) for i, of in enumerate(launches))


def _check(
    row: Row, rule: str, verdict: Verdict, places: Iterable[Place], count: int, what: str, total: int, before: str = ""
) -> Check:
    named = "; ".join(
        f"{records.value('suite', i)} {records.value('question_id', i)} turn {records.value('turn', i):.0f} "
        f"repeat {records.value('repeat', i):.0f}" + (f" launch {launch}" if launch else "")
        for records, i, launch in islice(places, _NAMED)
    )
    more = f"; {count - _NAMED} more" if count > _NAMED else ""
    return Check(rule, verdict, row.target, row.label, f"{count} of {total} {what}", why=before + named + more)
