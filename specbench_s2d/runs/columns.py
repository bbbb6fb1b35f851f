"""Records by column: what every table is computed from, as a list of a million `Record`s fits no memory.

Numbers are float64 with NaN where missing (records hold no other NaN); texts, objects and output ids are codes of their
distinct values, -1 where missing; lists stand one after another in one array. All are kept once, in `Columns`, and
`Records` are chosen rows of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, TypeVar, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from specbench_s2d.runs.parsing import AS_JSON, VERDICT, Parser
from specbench_s2d.runs.record import Record

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Array = TypeVar("Array", bound=NDArray[Any])
T = TypeVar("T")
__all__ = ["VERDICT", "Columns", "Records", "in_order", "joint", "together"]
_AT_ONCE = 1024  # records made from rows


class Once:
    """Values that are made when first asked for, and kept."""

    _made: dict[Any, Any]

    def once(self, name: Any, make: Callable[[], T]) -> T:
        """What `make` gives, made once."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made


@dataclass(frozen=True)
class Asked:
    """Which of K questions by launches each item answers: its place among them, and the questions and launches of the
    K, (K,), in the order of their first items."""

    places: Ints
    questions: Ints
    launches: Ints

    @classmethod
    def of(cls, questions: Ints, launches: Ints) -> Asked:
        """Of the question and launch of each item."""
        least = int(launches.min(initial=0))
        places, keys = in_order(questions * (int(launches.max(initial=0)) - least + 1) + launches - least)
        first = firsts(places, len(keys))
        return cls(places, questions[first], launches[first])

    def in_order(self, which: Literal["questions", "launches"]) -> tuple[Ints, Ints]:
        """For each of the K the place of its question, or launch, among the distinct ones, and these, in the order of
        their first."""
        return self._questions if which == "questions" else self._launches

    @cached_property
    def _questions(self) -> tuple[Ints, Ints]:
        return in_order(self.questions)

    @cached_property
    def _launches(self) -> tuple[Ints, Ints]:
        return in_order(self.launches)


class Columns(Once):
    """All rows of a run, or of runs that are compared, column by column; arrays are made when first asked for."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._made = {}
        self._coded = {field.name for field in table.schema if pa.types.is_dictionary(field.type)}
        self._lists = {field.name for field in table.schema if pa.types.is_list(field.type)}

    def is_coded(self, field: str) -> bool:
        """Whether a field's values are codes: those of texts, of objects and of output ids."""
        return field in self._coded

    def is_list(self, field: str) -> bool:
        """Whether a field holds a list for each row."""
        return field in self._lists

    def numbers(self, field: str) -> Floats:
        """A number (or a flag) of each row, NaN where it is missing."""
        return self.once(field, lambda: _floats(self.table[field]))

    def codes(self, field: str) -> NDArray[np.int32]:
        """For each row the place of its value among `values`, -1 where it is missing."""
        return self.once(("codes", field), lambda: _codes(self.table[field]))

    def values(self, field: str) -> list[Any]:
        """The distinct values of a text or an object."""
        return self.once(("values", field), lambda: _values(self.table[field], field in AS_JSON))

    def present(self, field: str) -> Mask:
        """Whether each row has a value of a field."""
        return self.once(("present", field), lambda: self.table[field].is_valid().to_numpy())

    def lengths(self, field: str) -> Floats:
        """How many entries each row's list has, NaN where it is missing."""
        return self.once(("lengths", field), lambda: _floats(pc.list_value_length(self.table[field])))

    def entries(self, field: str) -> NDArray[np.int32]:
        """The entries of all lists, one after another."""
        return self.once(("entries", field), lambda: _joined(pc.list_flatten(self.table[field])))

    def starts(self, field: str) -> Ints:
        """Where each row's list begins among `entries`, and where the last one ends."""
        return self.once(("starts", field), lambda: _ends(self.lengths(field)))

    def sums(self, field: str) -> Floats:
        """The sum of each row's list, NaN where it is missing."""
        return self.once(("sums", field), lambda: self.sums_of(self.entries(field), field))

    def sums_of(self, values: NDArray[Any], field: str) -> Floats:
        """The sum over each row's list of something that there is for each of its entries."""
        so_far, starts = np.concatenate([[0], np.cumsum(values, dtype=np.int64)]), self.starts(field)
        sums: Floats = (so_far[starts[1:]] - so_far[starts[:-1]]).astype(np.float64)
        sums[np.isnan(self.lengths(field))] = np.nan
        return sums

    @cached_property
    def questions(self) -> Ints:
        """A number for each suite and question."""
        return joint([self.codes("suite"), self.codes("question_id")])

    @cached_property
    def cells(self) -> Ints:
        """A number for each target, suite, question, turn, repeat and launch."""
        whole = [self.numbers(field).astype(np.int64) for field in ("turn", "repeat", "launch")]
        return joint([self.codes("target"), self.questions, *whole])

    @cached_property
    def cells_on_device(self) -> Ints:
        """The same, and the device that measured it."""
        return joint([self.cells, self.codes("device_id")])


class Records(Once, Sequence[Record]):
    """Chosen rows of `Columns`, in order; as a sequence, the records themselves, which are made when asked for."""

    def __init__(self, columns: Columns, rows: NDArray[np.intp]) -> None:
        self.columns, self.rows = columns, rows
        self._made = {}
        self._parts: dict[Any, Any] = {}

    @classmethod
    def of(cls, records: Iterable[Record]) -> Records:
        """Records by column; those that are so already as they are."""
        if isinstance(records, Records):
            return records
        parser = Parser()
        table = parser.joined([parser.table_of(list(records))])
        return cls.all_of(Columns(table))

    @classmethod
    def all_of(cls, columns: Columns) -> Records:
        """Every row."""
        return cls(columns, np.arange(columns.table.num_rows))

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """Records of the same columns, one part after another."""
        return cls(parts[0].columns, np.concatenate([part.rows for part in parts]))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._records(self.rows[start : start + _AT_ONCE])

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Records: ...
    def __getitem__(self, place: int | slice) -> Record | Records:
        if isinstance(place, slice):
            return Records(self.columns, self.rows[place])
        return self._records(self.rows[[place]])[0]

    def take(self, places: Mask | NDArray[np.intp]) -> Records:
        """Those at some places, or where a mask is true."""
        return Records(self.columns, self.rows[places])

    def of_value(self, field: str, value: Any) -> Records:
        """Those with one value of a text."""
        return self.take(self.equal(field, value))

    def of_values(self, field: str, values: Sequence[Any]) -> Records:
        """Those with one of some values of a text."""
        among = np.array([*(value in values for value in self.columns.values(field)), False])
        return self.take(among[self.codes(field)])

    def equal(self, field: str, value: Any) -> Mask:
        """Whether a text has one value."""
        values = self.columns.values(field)
        if value not in values:
            return np.zeros(len(self), dtype=np.bool_)
        mask: Mask = self.codes(field) == values.index(value)
        return mask

    @cached_property
    def finished(self) -> Records:
        """Those whose status is ok."""
        mask = self.equal("status", "ok")
        return self if mask.all() else self.take(mask)

    def _taken(self, name: Any, of_all: Callable[[str], Array], field: str) -> Array:
        """These rows' part of a column, made once, and not to be written to."""

        if name not in self._parts:
            self._parts[name] = of_all(field)[self.rows]
            self._parts[name].flags.writeable = False
        array: Array = self._parts[name]
        return array

    def free(self) -> None:
        """Give back the memory of columns' parts, which are made anew when asked for."""
        self._parts.clear()

    def numbers(self, field: str) -> Floats:
        """As of `Columns`."""
        return self._taken(field, self.columns.numbers, field)

    def codes(self, field: str) -> NDArray[np.int32]:
        """As of `Columns`."""
        return self._taken(("codes", field), self.columns.codes, field)

    def lengths(self, field: str) -> Floats:
        """As of `Columns`."""
        return self._taken(("lengths", field), self.columns.lengths, field)

    def sums(self, field: str) -> Floats:
        """As of `Columns`."""
        return self._taken(("sums", field), self.columns.sums, field)

    def entries(self, *fields: str) -> tuple[NDArray[np.int32], ...]:
        """The entries of these rows' lists, one after another; of several fields, whose lists are as long."""
        starts = self.columns.starts(fields[0])
        places = spans(starts[self.rows], starts[self.rows + 1])
        return tuple(self.columns.entries(field)[places] for field in fields)

    def known(self, field: str) -> Mask:
        """Whether each has a value of a field."""
        return self._taken(("present", field), self.columns.present, field)

    def groups(self, *fields: str) -> list[Records]:
        """The records of each combination of some fields' values, in the order of the first of each."""
        coded = [self.codes(field) if self.columns.is_coded(field) else self.numbers(field) for field in fields]
        places, distinct = in_order(coded[0] if len(fields) == 1 else joint(coded))
        order = np.argsort(places, kind="stable")
        ends = np.cumsum(np.bincount(places, minlength=len(distinct)))[:-1]
        return [self.take(part) for part in np.split(order, ends)] if len(distinct) else []

    def by_value(self, field: str) -> dict[Any, Records]:
        """The records of each value of a text, in the order of their first; None for those without."""
        return {mine.value(field): mine for mine in self.groups(field)}

    def value(self, field: str, place: int = 0) -> Any:
        """One record's value of a text, an object or a number, None where it is missing."""
        if self.columns.is_coded(field):
            code = self.columns.codes(field)[self.rows[place]]
            return None if code < 0 else self.columns.values(field)[code]
        number = self.columns.numbers(field)[self.rows[place]]
        return None if np.isnan(number) else float(number)

    def distinct(self, field: str) -> list[Any]:
        """The values of a text or an object that there are, in the order of their first."""
        values = self.columns.values(field)
        return [values[code] for code in in_order(self.codes(field))[1] if code >= 0]

    @cached_property
    def questions(self) -> Ints:
        """A number for each suite and question."""
        return self.columns.questions[self.rows]

    @cached_property
    def launches(self) -> Ints:
        """The launch of each."""
        return self.numbers("launch").astype(np.int64)

    @cached_property
    def asked(self) -> Asked:
        """Which question each answers, and in which launch."""
        return Asked.of(self.questions, self.launches)

    def _records(self, rows: NDArray[np.intp]) -> list[Record]:
        found = self.columns.table.drop_columns([VERDICT]).take(rows).to_pylist()
        return [
            Record.model_validate({name: _parsed(value) if name in AS_JSON else value for name, value in row.items()})
            for row in found
        ]


def together(*records: Records) -> list[Records]:
    """Records of several runs as rows of the same columns, where codes can be compared."""
    if len({id(each.columns) for each in records}) <= 1:
        return list(records)
    table = pa.concat_tables([each.columns.table.take(each.rows) for each in records]).unify_dictionaries()
    columns, ends = Columns(table), np.cumsum([0, *map(len, records)])
    return [Records(columns, np.arange(start, end)) for start, end in pairwise(ends)]


def in_order(values: NDArray[Any]) -> tuple[Ints, NDArray[Any]]:
    """For each value its place among the distinct ones, and these, in the order of their first."""
    places, distinct = pd.factorize(values, use_na_sentinel=False)
    return places, distinct


def firsts(places: Ints, count: int) -> NDArray[np.intp]:
    """Where each of the places from 0 is first."""
    first = np.zeros(count, dtype=np.intp)
    first[places[::-1]] = np.arange(len(places))[::-1]
    return first


def joint(parts: Sequence[NDArray[Any]]) -> Ints:
    """One number for each combination of several arrays' values."""
    whole = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:
        _, places = np.unique(part, return_inverse=True)
        whole = whole * (int(places.max(initial=0)) + 1) + places
        _, whole = np.unique(whole, return_inverse=True)
    return whole


def spans(starts: Ints, ends: Ints) -> Ints:
    """The numbers from each start to before its end, one span after another."""
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _floats(column: pa.ChunkedArray) -> Floats:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    floats: Floats = column.to_numpy().astype(np.float64)
    return floats


def _joined(column: pa.ChunkedArray) -> NDArray[np.int32]:
    entries: NDArray[np.int32] = column.to_numpy()
    return entries


def _codes(column: pa.ChunkedArray) -> NDArray[np.int32]:
    parts = [chunk.indices.fill_null(-1).to_numpy() for chunk in column.chunks]
    codes: NDArray[np.int32] = np.concatenate([np.zeros(0, dtype=np.int32), *parts])
    return codes


def _values(column: pa.ChunkedArray, as_json: bool) -> list[Any]:
    found = column.chunks[0].dictionary.to_pylist() if column.num_chunks else []
    return list(map(_parsed, found)) if as_json else found


def _ends(lengths: Floats) -> Ints:
    return np.concatenate([[0], np.cumsum(np.nan_to_num(lengths).astype(np.int64))])


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
