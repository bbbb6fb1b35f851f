"""Cell by cell: are all there, are the outputs the same, and were the same drafts accepted?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from specbench_s2d.analysis.gate.verdict import Check, Tolerances, Verdict
from specbench_s2d.analysis.metrics.pairs import Cell, cell_of
from specbench_s2d.runs.record import BASELINE, Record

_NAMED = 3  # cells named in a line; the rest is counted


@dataclass(frozen=True)
class Both:
    """One cell of both runs, finished in both, asked the same prompt."""

    ours: Record
    base: Record

    @property
    def with_ids(self) -> bool:
        """Whether there are ids to compare on both sides."""
        return self.ours.output_ids is not None and self.base.output_ids is not None

    @property
    def same_ids(self) -> bool:
        return self.with_ids and self.ours.output_ids == self.base.output_ids

    @property
    def same_prompt(self) -> bool:
        """Unless hashes say otherwise: the runs have the same questions."""
        hashes = {self.ours.prompt_hash, self.base.prompt_hash}
        return None in hashes or len(hashes) == 1


@dataclass(frozen=True)
class Row:
    """One target and label of both runs: all launches of ours, one of the baseline's. `launches`: how many ours has."""

    target: str
    label: str
    ours: list[Record]
    base: list[Record]
    launches: int = 1

    @property
    def lossy(self) -> bool:
        return any(r.lossy for r in self.base)

    @property
    def drafts(self) -> bool:
        """Whether the baseline drafted, or did not record what it drafted; AR never does."""
        drafted = [r.drafted_per_step for r in self.base if r.status == "ok"]
        return self.label != BASELINE and any(steps is None or sum(steps) for steps in drafted)

    @property
    def alike(self) -> list[Both]:
        """The cells whose values must agree: of equal ids, or of ids that neither run carries."""
        return [both for both in self.common if both.same_ids or not both.with_ids]

    @cached_property
    def finished(self) -> list[Both]:
        """The cells that both runs finished."""
        theirs = {_asked(r): r for r in self.base if r.status == "ok"}
        return [Both(r, theirs[_asked(r)]) for r in self.ours if r.status == "ok" and _asked(r) in theirs]

    @property
    def common(self) -> list[Both]:
        """The cells to compare: finished in both and asked the same prompt. An earlier turn may have parted."""
        return [both for both in self.finished if both.same_prompt]


def rows(ours: Sequence[Record], base: Sequence[Record], repeats: int, launches: int = 1) -> list[Row]:
    """The baseline's rows, the first `repeats` of its repeats in its first launch, with all that this run's `launches`
    have of each."""
    first = min((r.launch for r in base), default=0)
    wanted = [r for r in base if r.repeat < repeats and r.launch == first]
    names = dict.fromkeys((r.target, r.label) for r in wanted)
    return [Row(t, n, _of(ours, t, n), _of(wanted, t, n), launches) for t, n in names]


def same_work(row: Row, source: Row) -> Iterator[Check]:
    """Whether a row did what the baseline's did, and its own run's audit found nothing wrong."""
    asked = prompts(row, source)
    yield completeness(row)
    yield from [asked] if asked else []
    yield audit(row)


def anything_compared(row: Row, judged: Iterable[Check]) -> Iterator[Check]:
    """A row of which no value could be compared is incomplete: nothing was shown of it."""
    finished = any(r.status == "ok" for r in row.base)
    if finished and all(check.verdict == "not judged" for check in judged):
        yield Check("evidence", "incomplete", row.target, row.label, why="no value of it could be compared")


def completeness(row: Row) -> Check:
    """Every cell that the baseline finished is finished here, in every launch; a failure is a regression, a gap leaves
    the run incomplete."""
    mine = {cell_of(r): r.status for r in row.ours}
    finished = [_asked(r) for r in row.base if r.status == "ok"]
    wanted = [(*asked, launch) for launch in range(row.launches) for asked in finished]
    failed = [cell for cell in wanted if mine.get(cell) == "failed"]
    absent = [cell for cell in wanted if mine.get(cell) not in ("ok", "failed")]
    if not wanted:
        return Check("cells", "not judged", row.target, row.label, why="the baseline finished none")
    if failed:
        return _check(row, "cells", "regressed", failed, "failed", len(wanted))
    if absent:
        return _check(row, "cells", "incomplete", absent, "missing or skipped", len(wanted))
    return Check("cells", "holds", row.target, row.label, f"{len(wanted)} finished", f"{len(wanted)} finished")


def prompts(row: Row, source: Row) -> Check | None:
    """A prompt differs only after an answer that does; `source`: the row whose answers are carried into later turns.

    Anything else is another template or tokenizer, and the runs did not do the same. None where all are the same.
    """
    moved = [both for both in row.finished if not both.same_prompt]
    parted = {cell_of(b.ours) for b in source.finished if not b.same_ids}
    alone = [cell_of(b.ours) for b in moved if not parted & set(_turns_before(b.ours))]
    if alone:
        return _check(row, "prompts", "incomparable", alone, "differ though no earlier answer does", len(row.finished))
    counted = f"{len(moved)} of {len(row.finished)} differ"
    why = "an earlier answer parted: these cells are not compared"
    return Check("prompts", "holds", row.target, row.label, counted, why=why) if moved else None


def audit(row: Row) -> Check:
    """No output that its own run's audit calls a mismatch, in any repeat."""
    audited = [r for r in row.ours if r.divergence is not None]
    wrong = [cell_of(r) for r in audited if r.divergence is not None and r.divergence.verdict == "mismatch"]
    ties = sum(r.divergence is not None and r.divergence.verdict == "near_tie" for r in audited)
    if wrong:
        return _check(row, "audit", "regressed", wrong, "mismatched", len(audited))
    lost = [cell_of(b.ours) for b in row.common if b.base.divergence is not None and b.ours.divergence is None]
    if lost:
        return _check(row, "audit", "incomplete", lost, "not audited", len(row.common))
    if not audited:
        reasons = dict.fromkeys(r.reasons["divergence"] for r in row.ours if "divergence" in r.reasons)
        why = "; ".join(reasons) or "not audited"
        return Check("audit", "not judged", row.target, row.label, why=why)
    return Check("audit", "holds", row.target, row.label, f"{len(audited)} audited, {ties} near-ties")


def outputs(row: Row, tolerances: Tolerances, greedy: bool) -> Check:
    """Greedy ids are the baseline's; an output may part at a near-tie, and a few lossy ones anywhere."""
    if not greedy:
        return Check("output ids", "not judged", row.target, row.label, why="only greedy outputs are compared")
    both = [b for b in row.common if b.with_ids]
    moved = [b for b in both if not b.same_ids]
    wrong = [b for b in moved if not _parts_at_a_tie(b)]
    if wrong and not (row.lossy and len(wrong) <= tolerances.moved_cells * len(both)):
        where = f"first at token {parting(wrong[0])}: "
        return _check(row, "output ids", "regressed", [cell_of(b.ours) for b in wrong], "differ", len(both), where)
    lost = [cell_of(b.ours) for b in row.common if b.ours.output_ids is None and b.base.output_ids is not None]
    if lost:
        return _check(row, "output ids", "incomplete", lost, "carry no ids", len(row.common))
    if not both or len(both) < len(row.common):
        why = f"{len(both)} of {len(row.common)} cells of the same prompt carry ids in the baseline"
        return Check("output ids", "not judged", row.target, row.label, why=why)
    allowed = f"{len(moved) - len(wrong)} at near-ties" + (f", {len(wrong)} within the share allowed" if wrong else "")
    why = f"{len(moved)} of {len(both)} differ: {allowed}" if moved else ""
    return Check("output ids", "holds", row.target, row.label, f"{len(both) - len(moved)} equal", f"{len(both)}", why)


def parting(both: Both) -> int:
    """The first position, from 0, at which two outputs differ, which may be the end of the shorter."""
    mine, theirs = both.ours.output_ids or [], both.base.output_ids or []
    shorter = min(len(mine), len(theirs))
    return next((i for i in range(shorter) if mine[i] != theirs[i]), shorter)


def _parts_at_a_tie(both: Both) -> bool:
    """Whether two outputs first part where either run found the two best logits within the noise. An output that
    breaks off has no tie to excuse it."""
    place = parting(both)
    goes_on = all(place < len(record.output_ids or []) for record in (both.ours, both.base))
    return goes_on and any(place in (record.tie_positions or ()) for record in (both.ours, both.base))


def acceptance(row: Row, exact: bool) -> Check | None:
    """On one machine: where the ids are equal, every step accepted and emitted what it did. None for what drafts
    nothing."""
    if not row.drafts:
        return None
    both = [b for b in row.common if b.same_ids and None not in (*_steps(b.ours), *_steps(b.base))]
    if not exact or not both:
        why = "another machine's drafts may part at ties of their own: see MAT" if both else "no cell of equal ids"
        return Check("acceptance", "not judged", row.target, row.label, why=why)
    moved = [cell_of(b.ours) for b in both if _steps(b.ours) != _steps(b.base)]
    if moved:
        return _check(row, "acceptance", "regressed", moved, "accept otherwise", len(both))
    return Check("acceptance", "holds", row.target, row.label, f"{len(both)} equal", f"{len(both)}")


def _turns_before(record: Record) -> list[Cell]:
    return [cell_of(record.model_copy(update={"turn": turn})) for turn in range(record.turn)]


def _asked(record: Record) -> tuple[str, str, int | str, int, int]:
    """What was decoded, in whichever launch."""
    return cell_of(record)[:5]


def _steps(record: Record) -> tuple[list[int] | None, ...]:
    return record.accepted_per_step, record.emitted_per_step


def _of(records: Iterable[Record], target: str, label: str) -> list[Record]:
    return [r for r in records if (r.target, r.label) == (target, label)]


def _check(
    row: Row, rule: str, verdict: Verdict, cells: Sequence[Cell], what: str, total: int, before: str = ""
) -> Check:
    named = "; ".join(
        f"{suite} {question} turn {turn} repeat {repeat}" + (f" launch {launch}" if launch else "")
        for _, suite, question, turn, repeat, launch in cells[:_NAMED]
    )
    more = f"; {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
    return Check(rule, verdict, row.target, row.label, f"{len(cells)} of {total} {what}", why=before + named + more)
