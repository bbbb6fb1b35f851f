"""A run's records by column, read as a stream: lines that this release writes by Arrow, all others one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from specbench_s2d.runs.columns import Columns, Records
from specbench_s2d.runs.folder import parse_lines, records_path, whole_lines
from specbench_s2d.runs.parsing import Parser, table_of_lines

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
    keys, ends = columns.table["key"], np.cumsum([0, *counts])
    return [
        Records(columns, start + _last_of_each(keys.slice(start, count)))
        for start, count in zip(ends[:-1], counts, strict=True)
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


def _last_of_each(keys: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Of each key the last row, in the order of their first."""
    rows = np.arange(len(keys))
    codes = np.concatenate([np.zeros(0, np.int32), *(c.indices.to_numpy() for c in keys.dictionary_encode().chunks)])
    last = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.intp)
    last[codes] = rows
    return last
