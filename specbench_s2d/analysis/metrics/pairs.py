"""Records picked, summed, paired and grouped: what every metric starts from.

A metric takes the records (any status: only those with status ok are used) or the pairs of one table row, and returns
a `Measure`, whose value is None, with the reason, where nothing can be said. It computes with whole columns of
`runs.columns.Records`; a list of records is put into such columns first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.decoding.labels import value_text
from specbench_s2d.runs.columns import Asked, Floats, Ints, Mask, Once, Records, in_order, together
from specbench_s2d.runs.record import Record

Question = tuple[str, int | str]
Cell = tuple[str, str, int | str, int, int, int]


@dataclass(frozen=True)
class Pair:
    """A decoder's record and the baseline's (AR's, or that of the decoder it is compared with) of the same target,
    question, turn, repeat and launch; both finished, both timed."""

    ours: Record
    baseline: Record


@dataclass(frozen=True)
class Pairs(Once):
    """Pairs by column: in each place our record and the baseline's. As an iterable, `Pair`s, made when asked for."""

    ours: Records
    baseline: Records
    _made: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Pairs:
        """Pairs by column; those that are so already as they are."""
        if isinstance(pairs, Pairs):
            return pairs
        listed = list(pairs)
        ours, baseline = together(Records.of([p.ours for p in listed]), Records.of([p.baseline for p in listed]))
        return cls(ours, baseline)

    def __len__(self) -> int:
        return len(self.ours)

    def __iter__(self) -> Iterator[Pair]:
        return map(Pair, self.ours, self.baseline)

    def take(self, places: Mask | NDArray[np.intp]) -> Pairs:
        """Those at some places, or where a mask is true."""
        return Pairs(self.ours.take(places), self.baseline.take(places))

    @property
    def questions(self) -> Ints:
        """A number for each suite and question."""
        return self.ours.questions

    @property
    def launches(self) -> Ints:
        """The launch that each was measured in."""
        return self.ours.launches

    @property
    def asked(self) -> Asked:
        """As of `Records`."""
        return self.ours.asked


def question_of(record: Record) -> Question:
    """What counts as one question, whatever the turns and repeats."""
    return record.suite, record.question_id


def cell_of(record: Record) -> Cell:
    """Target, suite, question, turn, repeat and launch: what was decoded, whichever decoder did it."""
    return record.target, record.suite, record.question_id, record.turn, record.repeat, record.launch


def latest(records: Iterable[Record]) -> Records:
    """One record per cell and decoder: the last one written, which a retry of a failed cell appends, in the place of
    the first."""
    of = Records.of(records)
    places, distinct = in_order(of.columns.cells[of.rows] * (len(of.columns.values("label")) + 1) + of.codes("label"))
    last = np.zeros(len(distinct), dtype=np.intp)
    last[places] = np.arange(len(of))
    return of.take(last)


def carrying(records: Iterable[Record], *fields: str) -> tuple[Records, str | None]:
    """The finished records that carry all `fields`, and a note (with the records' reasons) where some do not."""
    finished = Records.of(records).finished
    if not len(finished):
        return finished, "no cell finished"
    known = [finished.known(field) for field in fields]
    mask = np.logical_and.reduce(known)
    if mask.all():
        return finished, None
    lacking = {field: finished.take(~has).distinct("reasons") for field, has in zip(fields, known, strict=True)}
    reasons = {said[field] for field, of_field in lacking.items() for said in of_field if field in said}
    missing = f"{np.sum(~mask)} of {len(finished)} cells carry no {' or '.join(fields)}"
    return finished.take(mask), f"{missing} ({', '.join(sorted(reasons))})" if reasons else missing


def total(records: Iterable[Record], field: str) -> float:
    """The sum of a number (or of a list of numbers) over records that carry it."""
    of = Records.of(records)
    return exact_sum(of.sums(field) if of.columns.is_list(field) else of.numbers(field))


def exact_sum(values: NDArray[Any]) -> float:
    """The sum, rounded once."""
    return float(math.fsum(values.tolist()))


def sums_rounded_once(places: Ints, values: Floats, count: int) -> Floats:
    """The sum of the values of each place, rounded once; of two or fewer as floating point adds them."""
    sums: Floats = np.bincount(places, values, count).astype(np.float64)
    sizes = np.bincount(places, minlength=count)
    for place in np.flatnonzero(sizes > 2):
        sums[place] = exact_sum(values[places == place])
    return sums


def full_sum(records: Iterable[Record], field: str) -> Measure:
    """A sum over the finished records; None unless every one of them carries the field."""
    kept, note = carrying(records, field)
    return Measure(None, note) if note else Measure(total(kept, field))


def pair(records: Iterable[Record], baseline: Iterable[Record]) -> Pairs:
    """Match a decoder's records with the baseline's, cell by cell, in the decoder's order.

    A record that failed, was skipped or carries no total time has no pair, and neither has its partner; nor have two
    that were measured on different devices. Decode times may be missing (imported runs): metrics that need them leave
    such pairs out.
    """
    ours, theirs = together(Records.of(records), Records.of(baseline))
    cells, partners = theirs.once("partners", lambda: _by_cell(theirs))
    kept = carrying(ours, *_PAIRED)[0]
    wanted = kept.columns.cells_on_device[kept.rows]
    found, places = sought(wanted, cells)
    return Pairs(kept.take(found), Records(kept.columns, partners[places]))


_PAIRED = ("new_tokens", "total_s")


def sought(wanted: Ints, numbers: Ints) -> tuple[Mask, NDArray[np.intp]]:
    """Which of the wanted are among rising numbers, and the places of those there; of equal ones, of the last."""
    places = np.searchsorted(numbers, wanted, side="right") - 1
    found = (numbers[places] == wanted) if len(numbers) else np.zeros(len(wanted), dtype=np.bool_)
    return found, places[found]


def _by_cell(baseline: Records) -> tuple[Ints, NDArray[np.intp]]:
    """The cells of records that can have a partner in rising order, and their rows; of one cell, the last is last."""
    kept = carrying(baseline, *_PAIRED)[0]
    cells = kept.columns.cells_on_device[kept.rows]
    order = np.argsort(cells, kind="stable")
    return cells[order], kept.rows[order]


@dataclass(frozen=True)
class Group:
    """The records behind one row of the summary table: a decoder on one suite, or on all, of one target, or of several.

    `targets`: those that the row is about. `baseline`: AR's records. `parts`: of several targets, the row of each,
    empty for one that has none; `of_targets`: the group of each that has one."""

    target: str
    label: str
    suite: str
    records: Sequence[Record]
    targets: Sequence[str]
    baseline: Sequence[Record]
    parts: Sequence[Mapping[str, Any]] = ()
    of_targets: Sequence[Group] = ()

    @cached_property
    def _of(self) -> Records:
        return Records.of(self.records)

    @cached_property
    def by_target(self) -> list[Records]:
        if len(self.targets) == 1:
            return [self._of]
        known = {group.target: group._of for group in self.of_targets}
        return [known.get(target) or self._of.of_value("target", target) for target in self.targets]

    @cached_property
    def pairs_by_target(self) -> list[Pairs]:
        """The cells paired with AR's, target by target."""
        known = {group.target: group.pairs for group in self.of_targets}
        return [
            known[target] if target in known else pair(records, self.baseline)
            for target, records in zip(self.targets, self.by_target, strict=True)
        ]

    @cached_property
    def pairs(self) -> Pairs:
        """The same, one after another."""
        if len(self.targets) == 1:
            return self.pairs_by_target[0]
        ours, baseline = ([getattr(p, side) for p in self.pairs_by_target] for side in ("ours", "baseline"))
        return Pairs(Records.joined(ours), Records.joined(baseline))

    def against(self, baseline: Records) -> Group:
        """The same records beside another decoder's."""
        return replace(self, baseline=baseline, of_targets=())

    def free(self) -> None:
        """Give back the memory that its values took; sums that are known stay."""
        for records in (self._of, self._of.finished, self.pairs.ours, self.pairs.baseline):
            records.free()

    @property
    def decoder(self) -> str:
        return str(self._of.value("decoder"))

    @property
    def lossy(self) -> bool:
        return bool(self._of.numbers("lossy").any())

    @property
    def draft(self) -> str | None:
        """Targets may differ in it."""
        return ", ".join(filter(None, self._of.distinct("draft"))) or None

    @property
    def options(self) -> str:
        """Every option that the decoder ran with, defaults included, but for those that are not set."""
        options = self._of.distinct("decoder_options")[0].items()
        return ", ".join(f"{name}={value_text(value)}" for name, value in options if value is not None)

    @property
    def projected(self) -> str | None:
        """Why any of the records is a projection, each reason once; None where all were measured."""
        reasons = dict.fromkeys(part for said in self._of.distinct("projected") if said for part in said.split(", "))
        return ", ".join(reasons) or None
