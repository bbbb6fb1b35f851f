"""A run's records by column, read as a stream: lines that this release writes by Arrow, all others one by one."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from specbench_s2d.runs.columns import Columns, Records
from specbench_s2d.runs.folder import parse_lines, records_path, whole_lines
from specbench_s2d.runs.parsing import Parser, table_of_lines

_THREADS = 2
"""Of Arrow's reader, beside the one that prepares lines for it."""


def read_columns(folder: Path) -> Records:
    """All records of a run in the order written; of a cell that ran again, the last one, in its first place.

    Raises as `read_records` does: whatever Arrow does not read as a record is read anew by `Record`, line by line.
    """
    path, parser = records_path(folder), Parser()
    tables: list[pa.Table] = []
    waiting: deque[tuple[int, bytes, Future[pa.Table]]] = deque()

    def collect(most: int) -> None:
        while len(waiting) > most:
            number, lines, future = waiting.popleft()
            try:
                tables.append(future.result())
            except (ValueError, pa.ArrowException):
                tables.append(parser.table_of(list(parse_lines(lines, path, number))))

    with ThreadPoolExecutor(_THREADS) as pool:
        for number, lines in whole_lines(path):
            try:
                future = pool.submit(table_of_lines, *parser.coded(lines))
            except ValueError as error:
                future = Future()
                future.set_exception(error)
            waiting.append((number, lines, future))
            collect(most=_THREADS)
        collect(most=0)
    columns = Columns(parser.joined(tables or [parser.table_of([])]))
    return Records(columns, _last_of_each(columns.table["key"]))


def read_keys(folder: Path) -> set[str]:
    """The keys of the cells that a run's folder holds; raises as `read_records` does."""
    return set(read_columns(folder).columns.table["key"].to_pylist())


def _last_of_each(keys: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Of each key the last row, in the order of their first."""
    rows = np.arange(len(keys))
    codes = np.concatenate([np.zeros(0, np.int32), *(c.indices.to_numpy() for c in keys.dictionary_encode().chunks)])
    last = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.intp)
    last[codes] = rows
    return last
