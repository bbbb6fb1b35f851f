"""A run's records by column, read as a stream: lines that this release writes by Arrow, all others one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from specbench_s2d.runs.columns import Columns, Ints, Records, firsts
from specbench_s2d.runs.folder import of_another_cell, of_another_run, parse_lines, records_path, run_id_of, whole_lines
from specbench_s2d.runs.parsing import Parser, table_of_lines
from specbench_s2d.runs.record import CELL

_THREADS = 2
"""Of Arrow's reader, beside the one that prepares lines for it."""


def read_columns(*folders: Path) -> list[Records]:
    """All records of each run in the order written, as rows of the same columns; of a cell that ran again, the last
    one, in its first place.

    Raises as `read_records` does: whatever Arrow does not read as a record is read anew by `Record`, line by line.
    """
    parser = Parser()
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = [list(_tables(records_path(folder), parser, pool)) for folder in folders]
    counts = [sum(table.num_rows for table in of_folder) for of_folder in tables]
    columns = Columns(parser.joined([*chain.from_iterable(tables), parser.table_of([])]))
    ends = np.cumsum([0, *counts])
    return [
        _checked(folder, columns, np.arange(start, end))
        for folder, start, end in zip(folders, ends[:-1], ends[1:], strict=True)
    ]


def _tables(path: Path, parser: Parser, pool: ThreadPoolExecutor) -> Iterator[pa.Table]:
    """The records of a file, some megabytes of lines at a time."""
    waiting: deque[tuple[int, bytes, Future[pa.Table]]] = deque()

    def first() -> pa.Table:
        number, lines, future = waiting.popleft()
        try:
            return future.result()
        except (ValueError, pa.ArrowException):
            return parser.table_of(list(parse_lines(lines, path, number)))

    for number, lines in whole_lines(path):
        try:
            future = pool.submit(table_of_lines, *parser.coded(lines))
        except ValueError as error:
            future = Future()
            future.set_exception(error)
        waiting.append((number, lines, future))
        if len(waiting) > _THREADS:
            yield first()
    while waiting:
        yield first()


def read_keys(folder: Path) -> set[str]:
    """The keys of the cells that a run's folder holds; raises as `read_records` does."""
    return set(read_columns(folder)[0].columns.table["key"].to_pylist())


def _checked(folder: Path, columns: Columns, rows: Ints) -> Records:
    """The rows of a folder, each a line of its file; of each key the last one, in the order of their first.

    Raises `RunFolderError` for a record of another run, and for a key that stands for two cells.
    """
    if not len(rows):
        return Records(columns, rows)
    path, run_ids = records_path(folder), columns.codes("run_id")[rows]
    known = columns.values("run_id")
    wanted = run_id_of(folder) or known[run_ids[0]]
    code = known.index(wanted) if wanted in known else -1
    if (others := np.flatnonzero(run_ids != code)).size:
        raise of_another_run(path, int(others[0]) + 1, known[run_ids[others[0]]], wanted)
    places = _codes_of_keys(columns.table["key"].slice(rows[0], len(rows)))
    first, last = firsts(places, int(places.max()) + 1), np.zeros(int(places.max()) + 1, dtype=np.intp)
    last[places] = np.arange(len(rows))
    again = np.flatnonzero(first[places] != np.arange(len(rows)))
    for field in CELL if again.size else ():
        values = columns.codes(field) if columns.is_coded(field) else columns.numbers(field)
        other = again[values[rows[again]] != values[rows[first[places[again]]]]]
        if other.size:
            at = int(other[0])
            raise of_another_cell(path, at + 1, columns.table["key"][int(rows[at])].as_py(), int(first[places[at]]) + 1)
    return Records(columns, rows[last])


def _codes_of_keys(keys: pa.ChunkedArray) -> Ints:
    """A number for each distinct key, in the order of their first."""
    chunks = keys.dictionary_encode().chunks
    return np.concatenate([chunk.indices.to_numpy() for chunk in chunks]).astype(np.int64)
