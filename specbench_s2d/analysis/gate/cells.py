"""Cell by cell: are all there, are the outputs the same, and were the same drafts accepted?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specbench_s2d.analysis import stats
from specbench_s2d.analysis.gate.verdict import Check, Tolerances, Verdict
from specbench_s2d.bench.records import Record

_NAMED = 3  # cells named in a line; the rest is counted
Cell = tuple[str, int | str, int, int]


@dataclass(frozen=True)
class Both:
    """One cell of both runs, finished in both, asked the same prompt."""

    ours: Record
    base: Record

    @property
    def same_ids(self) -> bool:
        return self.ours.output_ids == self.base.output_ids


@dataclass(frozen=True)
class Row:
    """One target and label of both runs."""

    target: str
    label: str
    ours: list[Record]
    base: list[Record]

    @property
    def lossy(self) -> bool:
        return any(r.lossy for r in self.base)

    @property
    def drafts_nothing(self) -> bool:
        """Whether no step of the baseline drafted; imported runs do not say, and then it is not known."""
        return all(
            r.drafted_per_step is not None and not any(r.drafted_per_step) for r in self.base if r.status == "ok"
        )

    @property
    def common(self) -> list[Both]:
        """The cells to compare: finished in both and asked the same prompt. An earlier turn may have parted."""
        theirs = {_cell(r): r for r in self.base if r.status == "ok"}
        found = [Both(r, theirs[_cell(r)]) for r in self.ours if r.status == "ok" and _cell(r) in theirs]
        return [both for both in found if both.ours.prompt_hash == both.base.prompt_hash]


def rows(ours: Sequence[Record], base: Sequence[Record]) -> list[Row]:
    """The baseline's rows with what this run has of each, its repeats beyond the baseline's or ours left out."""
    repeats = min(max((r.repeat for r in records), default=0) for records in (ours, base))
    kept, wanted = ([r for r in records if r.repeat <= repeats] for records in (ours, base))
    names = dict.fromkeys((r.target, r.label) for r in wanted)
    return [Row(t, n, _of(kept, t, n), _of(wanted, t, n)) for t, n in names]


def completeness(row: Row) -> Check:
    """Every cell that the baseline finished is finished here; a failure is a regression, a gap leaves the run
    incomplete."""
    mine = {_cell(r): r.status for r in row.ours}
    wanted = [_cell(r) for r in row.base if r.status == "ok"]
    failed = [cell for cell in wanted if mine.get(cell) == "failed"]
    absent = [cell for cell in wanted if mine.get(cell) not in ("ok", "failed")]
    if failed:
        return _check(row, "cells", "regressed", failed, "failed", len(wanted))
    if absent:
        return _check(row, "cells", "incomplete", absent, "missing or skipped", len(wanted))
    return Check("cells", "holds", row.target, row.label, f"{len(wanted)} finished", f"{len(wanted)} finished")


def audit(row: Row) -> Check:
    """No output that its own run's audit calls a mismatch."""
    audited = [r for r in row.ours if r.divergence is not None]
    wrong = [_cell(r) for r in audited if r.divergence is not None and r.divergence.verdict == "mismatch"]
    ties = sum(r.divergence is not None and r.divergence.verdict == "near_tie" for r in audited)
    if wrong:
        return _check(row, "audit", "regressed", wrong, "mismatched", len(audited))
    if not audited:
        return Check("audit", "not judged", row.target, row.label, why="lossy, sampled, or not audited")
    return Check("audit", "holds", row.target, row.label, f"{len(audited)} audited, {ties} near-ties")


def outputs(row: Row, tolerances: Tolerances, temperature: float) -> Check:
    """Greedy ids are the baseline's; a lossless output may part at a near-tie, a few lossy ones anywhere."""
    if temperature > 0:
        return Check("output ids", "not judged", row.target, row.label, why="sampled outputs are not compared")
    both = [b for b in row.common if b.ours.output_ids is not None and b.base.output_ids is not None]
    if not both:
        why = "no cell of one prompt that finished in both and carries its ids"
        return Check("output ids", "not judged", row.target, row.label, why=why)
    moved = [b for b in both if not b.same_ids]
    wrong = [_cell(b.ours) for b in moved if row.lossy or not parts_at_a_tie(b.ours, b.base)]
    if wrong and not (row.lossy and len(wrong) <= tolerances.moved_cells * len(both)):
        return _check(row, "output ids", "regressed", wrong, "differ", len(both))
    why = (
        f"{len(moved)} of {len(both)} differ, {'within the share allowed' if wrong else 'at near-ties'}"
        if moved
        else ""
    )
    return Check("output ids", "holds", row.target, row.label, f"{len(both) - len(moved)} equal", f"{len(both)}", why)


def parts_at_a_tie(ours: Record, base: Record) -> bool:
    """Whether two outputs first part where either run found the two best logits within the noise."""
    mine, theirs = ours.output_ids or [], base.output_ids or []
    shorter = min(len(mine), len(theirs))
    parted = next((i for i in range(shorter) if mine[i] != theirs[i]), None)
    return parted is not None and any(parted in (record.tie_positions or ()) for record in (ours, base))


def acceptance(row: Row, exact: bool) -> Check | None:
    """On one machine: where the ids are equal, every step accepted and emitted what it did. None for what drafts
    nothing."""
    if row.drafts_nothing:
        return None
    both = [b for b in row.common if b.same_ids and b.base.accepted_per_step is not None]
    if not exact or not both:
        why = "another machine's drafts may part at ties of their own: see MAT" if both else "no cell of equal ids"
        return Check("acceptance", "not judged", row.target, row.label, why=why)
    moved = [_cell(b.ours) for b in both if _steps(b.ours) != _steps(b.base)]
    if moved:
        return _check(row, "acceptance", "regressed", moved, "accept otherwise", len(both))
    return Check("acceptance", "holds", row.target, row.label, f"{len(both)} equal", f"{len(both)}")


def _steps(record: Record) -> tuple[list[int] | None, ...]:
    return record.accepted_per_step, record.emitted_per_step


def _cell(record: Record) -> Cell:
    return *stats.question_of(record), record.turn, record.repeat


def _of(records: Iterable[Record], target: str, label: str) -> list[Record]:
    return [r for r in records if (r.target, r.label) == (target, label)]


def _check(row: Row, rule: str, verdict: Verdict, cells: Sequence[Cell], what: str, total: int) -> Check:
    named = "; ".join(
        f"{suite} {question} turn {turn} repeat {repeat}" for suite, question, turn, repeat in cells[:_NAMED]
    )
    more = f"; {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
    return Check(rule, verdict, row.target, row.label, f"{len(cells)} of {total} {what}", why=named + more)
