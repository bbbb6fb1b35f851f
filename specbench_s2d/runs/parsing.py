"""Lines of a records' file as columns of Arrow, parsed by its JSON reader with the types of `Record`'s fields.

Fields whose values Arrow has no one type for (objects of any names, a question's id), and output ids, which decoders
share, are taken out of the lines beforehand, and stand as codes of their distinct values. What Arrow would read
otherwise than `Record` (a missing field, an infinity, a null in a list) is looked for, and what `Record` declares of
its values is held against whole columns; whatever is unlike the lines that this release writes raises `ValueError`, and
is for `Record` to judge.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from pydantic import ConfigDict, TypeAdapter

from specbench_s2d.measure.divergence import Divergence
from specbench_s2d.runs.fields import Field, fields_of
from specbench_s2d.runs.json_text import parse_json
from specbench_s2d.runs.record import NO_MORE_THAN_DRAFTED, PER_STEP, RESERVED, SCHEMAS, Record

AS_JSON = ("decoder_options", "question_id", "output_ids", "quality", "quality_counts", "reasons")
"""Fields of which each distinct value is kept once, as JSON."""
_PLAIN = ("key", "output_text")  # texts of which most rows have their own
_OBJECT = rb'\{(?:[^{}"\n]++|"(?:[^"\\\n]++|\\.)*+")*+\}'
_CODED = re.compile(
    rb'("(?:'
    + "|".join(AS_JSON).encode()
    + rb')": ?)('  # a name, and an object, a list, a text or a number
    + _OBJECT
    + rb'|\[[^][{}"\n]*+\]|"(?:[^"\\\n]++|\\.)*+"|-?\d++)'
)
_FIELDS = fields_of(Record)
_DEFAULTS = {
    name: info.get_default(call_default_factory=True)
    for name, info in Record.model_fields.items()
    if not _FIELDS[name].is_nullable and not info.is_required() and name != "schema_version"
}
VERDICT = "verdict"
"""A column of its own: the verdict of the divergence."""


def _arrow_type(field: Field) -> pa.DataType:
    if field.is_list:
        return pa.list_(pa.int32())
    return {float: pa.float64(), bool: pa.bool_(), int: pa.int64()}.get(field.kind, pa.string())


_DIVERGENCE = pa.struct([(name, _arrow_type(field)) for name, field in fields_of(Divergence).items()])
_TYPES = {
    name: pa.int32() if name in AS_JSON else _DIVERGENCE if name == "divergence" else _arrow_type(field)
    for name, field in _FIELDS.items()
}
_OPTIONS = pa.json.ParseOptions(
    explicit_schema=pa.schema([("record", pa.struct(list(_TYPES.items())))]), unexpected_field_behavior="error"
)


class _Values(dict[bytes, bytes]):
    """The code of each distinct value of one field, by its text in the file; as JSON of one form in `texts`."""

    def __init__(self, field: str) -> None:
        annotation: Any = Record.model_fields[field].annotation
        self._adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
        self._codes: dict[str, int] = {}

    def __missing__(self, text: bytes) -> bytes:
        value = self._adapter.validate_python(parse_json(text))
        self[text] = code = b"%d" % self.code(value)
        return code

    def code(self, value: Any) -> int:
        """The code of a value that is valid."""
        text = self._adapter.dump_json(value).decode()
        return self._codes.setdefault(text, len(self._codes))

    @property
    def texts(self) -> list[str]:
        return list(self._codes)


class Parser:
    """Makes tables of one run's records, which share the codes of their values."""

    def __init__(self) -> None:
        self._values = {field: _Values(field) for field in AS_JSON}
        self._by_text = {f'"{name}":{space}'.encode(): self._values[name] for name in AS_JSON for space in ("", " ")}

    def coded(self, lines: bytes) -> tuple[bytes, dict[str, int]]:
        """Whole lines with codes in place of values, and how many of each field; raises `ValueError` for a value that
        no record has."""
        lines.decode()
        pieces = _CODED.split(lines)
        names, values = pieces[1::3], pieces[2::3]
        pieces[2::3] = [self._by_text[name][value] for name, value in zip(names, values, strict=True)]
        found = Counter(names)
        counts = {field: found[b'"%s":' % field.encode()] + found[b'"%s": ' % field.encode()] for field in AS_JSON}
        return b"".join(pieces), counts

    def table_of(self, records: Sequence[Record]) -> pa.Table:
        """The same of records."""
        arrays = {}
        for name, kind in _TYPES.items():
            values: list[Any] = [getattr(record, name) for record in records]
            if name in AS_JSON:
                values = [None if value is None else self._values[name].code(value) for value in values]
            elif name == "divergence":
                values = [None if value is None else value.model_dump() for value in values]
            arrays[name] = pa.array(values, kind)
        return _with_codes(pa.table(arrays))

    def joined(self, tables: Iterable[pa.Table]) -> pa.Table:
        """The tables below each other, with the values that the codes are of."""
        table = pa.concat_tables(tables).unify_dictionaries()
        for field in AS_JSON:
            texts, place = pa.array(self._values[field].texts, pa.string()), table.schema.get_field_index(field)
            chunks = [pa.DictionaryArray.from_arrays(chunk, texts) for chunk in table[field].chunks]
            kind = pa.dictionary(pa.int32(), pa.string())
            table = table.set_column(place, field, pa.chunked_array(chunks, kind))
        return table


def table_of_lines(coded: bytes, counts: dict[str, int]) -> pa.Table:
    """The table of lines that `Parser.coded` gave; raises `ValueError` for what is no record, or unlike those that this
    release writes."""
    wrapped = b'{"record":' + coded[:-1].replace(b"\n", b'}\n{"record":') + b"}\n"
    options = pa.json.ReadOptions(use_threads=False, block_size=len(wrapped) + 1)
    rows = pa.json.read_json(pa.BufferReader(wrapped), options, _OPTIONS)["record"].combine_chunks()
    _require(len(rows) == coded.count(b"\n") and not rows.null_count)
    table = pa.Table.from_struct_array(rows)
    for name in _TYPES:
        column = table[name]
        missing = column.null_count
        if name in AS_JSON:
            _require(counts[name] == len(column) - missing)
        if missing and name in _DEFAULTS:  # absent, as in older records, not null
            _require(not re.search(rf'"{name}"\s*:\s*null'.encode(), coded))
            if name in AS_JSON:
                raise ValueError("objects that older records lack")
            table = table.set_column(table.schema.get_field_index(name), name, column.fill_null(_DEFAULTS[name]))
        elif missing and name == "seed":
            _require(len(re.findall(rb'"seed"\s*:\s*null', coded)) == missing)
        elif missing:
            _require(_FIELDS[name].is_nullable)
    _check_values(table)
    return _with_codes(table)


def _check_values(table: pa.Table) -> None:
    """Raise `ValueError` for values that Arrow's types allow and `Record` does not."""
    divergence = table["divergence"].combine_chunks()
    parts = {name: pc.struct_field(divergence, name) for name in fields_of(Divergence)}
    _require(parts["verdict"].null_count == divergence.null_count)
    _check_fields(parts, fields_of(Divergence))
    _check_fields({name: table[name] for name, kind in _TYPES.items() if name not in (*AS_JSON, "divergence")}, _FIELDS)
    _require(set(pc.unique(table["schema_version"]).to_pylist()) <= set(SCHEMAS))
    for name, reserved in RESERVED.items():
        _require(pc.any(pc.equal(table[name], reserved)).as_py() is not True)
    _check_steps(table)


def _check_fields(columns: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
    """Hold each column to what its field declares."""
    for name, column in columns.items():
        field = fields[name]
        if field.is_list:
            column = pc.list_flatten(column)
            _require(not column.null_count)
        if field.kind is float:
            _require(pc.all(pc.is_finite(column)).as_py() is not False)
        if field.low is not None or field.high is not None:
            found = pc.min_max(column).as_py()
            _require(field.low is None or found["min"] is None or found["min"] >= field.low)
            _require(field.high is None or found["max"] is None or found["max"] <= field.high)
        if field.shortest is not None and not field.is_list:
            found = pc.min_max(pc.binary_length(column)).as_py()
            _require(found["min"] is None or found["min"] >= field.shortest)
        if field.choices is not None:
            _require(set(pc.unique(column).to_pylist()) <= {*field.choices, None})


def _check_steps(table: pa.Table) -> None:
    """Lists of one row have an entry for each Step, and are as long as each other."""
    lengths = {name: pc.list_value_length(table[name]) for name in PER_STEP}
    for name in PER_STEP[1:]:
        for other in PER_STEP[: PER_STEP.index(name)]:
            _require(pc.all(pc.equal(lengths[name], lengths[other])).as_py() is not False)
    for name in NO_MORE_THAN_DRAFTED:
        both = pc.and_(table[name].is_valid(), table["drafted_per_step"].is_valid())
        ours, drafted = (pc.list_flatten(table[field].filter(both)) for field in (name, "drafted_per_step"))
        _require(pc.all(pc.less_equal(ours, drafted)).as_py() is not False)


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("unlike the records that this release writes")


def _with_codes(table: pa.Table) -> pa.Table:
    """The table with codes in place of texts that many rows share."""
    table = table.append_column(VERDICT, pc.struct_field(table["divergence"], "verdict").dictionary_encode())
    for place, (name, kind) in enumerate(_TYPES.items()):
        if pa.types.is_string(kind) and name not in _PLAIN:
            table = table.set_column(place, name, table[name].dictionary_encode())
    return table
