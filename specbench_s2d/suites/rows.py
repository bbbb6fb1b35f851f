"""The rows of a question file: JSON Lines, a JSON array, CSV or Parquet, each row as its values by name."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from specbench_s2d.display import cut
from specbench_s2d.errors import QuestionFileError, in_one_line
from specbench_s2d.files import remedy, why_no_file

LISTS = frozenset({"turns", "messages", "conversations", "reference"})
"""Fields that hold lists: in a CSV file, a cell of theirs that begins with a bracket is JSON."""
_SHOWN = 60
_MOST_NAMES = 20
_GZIP = b"\x1f\x8b"
_OTHER_KINDS = {
    b"BZh": ("compressed by bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ\x00": ("compressed by xz", "unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "unpack it with unzstd"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it, and give the file inside"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "save the sheet as CSV UTF-8"),
    b"%PDF": ("a PDF", "give the questions as JSON Lines or CSV"),
    b"ARROW1": ("an Arrow file", "save the table as Parquet"),
    b"SQLite format 3": ("an SQLite database", "save the table as CSV"),
    b"\xff\xfe": ("UTF-16 text", "save the file as UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "save the file as UTF-8"),
}
"""What files of other kinds begin with, what they are, and what to do."""
_MOST_CELL = 2**31 - 1  # characters; csv's own limit is 131,072


@dataclass(frozen=True)
class Row:
    """`where` names file and place, for messages; `place` is the place alone. `number`: of the row, or of the line in a
    file of lines, from 1."""

    where: str
    place: str
    number: int
    values: dict[str, Any]


def read_file(path: Path) -> bytes:
    """A question file's bytes; raises `QuestionFileError` that says what to give instead."""
    try:
        if (why := why_no_file(path)) and not path.is_dir():
            raise QuestionFileError(f"{path}: is {why}; give a question file.")
        return path.read_bytes()
    except QuestionFileError:
        raise
    except FileNotFoundError:
        raise QuestionFileError(
            f"{path}: no such file; give a question file (JSON Lines, JSON array, CSV, Parquet), hub:OWNER/NAME, "
            "'embedded' or 'spec-bench'."
        ) from None
    except IsADirectoryError:
        raise QuestionFileError(f"{path}: a folder; give the question file inside it.") from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        advice = remedy(error, "give another file")
        raise QuestionFileError(f"{path}: the question file cannot be read ({said}); {advice}.") from error


def read_rows(content: bytes, name: str) -> list[Row]:
    """Every row of a file, in order; `name` says what it is: .csv, .tsv, .parquet, else JSON; each may be compressed by
    gzip.

    Raises `QuestionFileError` for the first row that cannot be read, and for a file without any.
    """
    if content.startswith(_GZIP):
        content, name = _unpacked(content, name), name.removesuffix(".gz")
    _refuse_other_kinds(content, name)
    content = content.removeprefix(codecs.BOM_UTF8)  # which editors and spreadsheets write
    suffix = PurePath(name).suffix.lower()
    if content.startswith(b"PAR1") or suffix == ".parquet":
        rows = _parquet_rows(content, name)
    elif suffix in (".csv", ".tsv"):
        rows = _csv_rows(content, name)
    elif content.lstrip()[:1] == b"[":
        rows = _array_rows(content, name)
    else:
        rows = _lines(content, name)
    if not rows:
        raise QuestionFileError(f"{name}: empty; expected questions, one a row.")
    return rows


def _unpacked(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise QuestionFileError(
            f"{name}: a damaged gzip file ({in_one_line(error).rstrip('.')}); fetch it again."
        ) from error


def _refuse_other_kinds(content: bytes, name: str) -> None:
    """Raise `QuestionFileError` for a file that is neither a table nor text, by what it begins with."""
    kind, advice = next((said for mark, said in _OTHER_KINDS.items() if content.startswith(mark)), ("", ""))
    if content.startswith(b"PK\x03\x04"):
        workbook = b"xl/" in content[:4096] or PurePath(name).suffix.lower() in (".xlsx", ".xlsm")
        kind, advice = _OTHER_KINDS[b"\xd0\xcf\x11\xe0"] if workbook else ("a ZIP archive", "give the file inside it")
    if kind:
        raise QuestionFileError(
            f"{name}: {kind}; {advice}. Question files are JSON Lines, a JSON array, CSV or Parquet."
        )


def numbered(values: Iterable[dict[str, Any]], name: str) -> list[Row]:
    """Rows of a table that has no lines."""
    return [Row(f"{name}: row {i}", f"row {i}", i, row) for i, row in enumerate(values, start=1)]


def shown(value: Any) -> str:
    """A value as a message quotes it: in one line, cut short."""
    text = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else _as_json(value)
    return repr(cut(text, _SHOWN))


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return type(value).__name__


def _lines(content: bytes, name: str) -> list[Row]:
    """JSON Lines, parted by line feeds alone: U+2028 and its like are text inside a question."""
    lines = enumerate(content.split(b"\n"), start=1)
    return [
        Row(f"{name}:{number}", f"line {number}", number, _object(line, f"{name}:{number}"))
        for number, line in lines
        if line.strip()
    ]


def _object(line: bytes, where: str) -> dict[str, Any]:
    row = _parsed(line, where, "a JSON object")
    if not isinstance(row, dict):
        raise QuestionFileError(f"{where}: expected one JSON object per line, got {shown(row)}.")
    return row


def _array_rows(content: bytes, name: str) -> list[Row]:
    """A JSON array of rows; an item that is a text is a prompt."""
    items = _parsed(content, name, "a JSON array")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict | str):
            raise QuestionFileError(f"{name}: row {number}: expected a JSON object or a text, got {shown(item)}.")
    return numbered(({"turns": [item]} if isinstance(item, str) else item for item in items), name)


def _parsed(text: bytes, where: str, what: str) -> Any:
    try:
        value = json.loads(text.decode("utf-8-sig"))
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half of an escaped surrogate pair is no text either
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise QuestionFileError(f"{where}: not UTF-8 text ({error.reason}); save the file as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise QuestionFileError(f"{where}: not {what} ({error}), got {shown(text)}.") from error
    return value


def _csv_rows(content: bytes, name: str) -> list[Row]:
    """A table whose first line names the columns; parted by commas, semicolons or tabs, whichever that line has most
    of. Cells are texts, empty ones are absent."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise QuestionFileError(f"{name}: not UTF-8 text ({error.reason}); save the file as CSV UTF-8.") from error
    lines = _cells(text, name)
    if not lines:
        return []
    names = [cell.strip() for cell in lines[0][1]]
    for column in names:
        if column and names.count(column) > 1:
            raise QuestionFileError(f"{name}:1: column {shown_name(column)} stands there twice; name each column once.")
    rows = []
    for number, (line, cells) in enumerate(lines[1:], start=1):
        where = f"{name}:{line}"
        if len(cells) != len(names):
            raise QuestionFileError(
                f"{where}: {len(cells)} values, where the first line names {len(names)} columns; "
                "quote values that hold the separator."
            )
        given = {column: cell for column, cell in zip(names, cells, strict=True) if column}
        rows.append(Row(where, f"line {line}", number, _values(given, where)))
    if not rows:
        raise QuestionFileError(f"{name}: no row below its first line, which names the columns: {columns(names)}.")
    return rows


def _cells(text: str, name: str) -> list[tuple[int, list[str]]]:
    """The cells of every line that is not empty, with the number of the line that it begins on."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    found = []
    limit = csv.field_size_limit(_MOST_CELL)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise QuestionFileError(f"{name}:{line}: not CSV ({error}); quote values as spreadsheets do.") from error
    finally:
        csv.field_size_limit(limit)
    return found


def _values(cells: dict[str, str], where: str) -> dict[str, Any]:
    """The cells of one row: JSON where a field of lists holds it, texts otherwise. The columns stay, without a value
    (None) where a cell is empty."""
    values: dict[str, Any] = {}
    for column, cell in cells.items():
        if column in LISTS and cell.lstrip().startswith("["):
            values[column] = _parsed(cell.encode("utf-8"), f"{where}: {column!r}", "JSON")
        elif column == "turns":
            values[column] = [cell]
        else:
            values[column] = cell or None
    return values


def _parquet_rows(content: bytes, name: str) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)).read()
        return numbered(table.to_pylist(), name)
    except OverflowError as error:  # dates that Python has none for
        raise QuestionFileError(
            f"{name}: a value cannot be read ({in_one_line(error, kind=False)}); leave its column out."
        ) from error
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise QuestionFileError(f"{name}: not a whole Parquet file ({in_one_line(error).rstrip('.')}).") from error


def columns(names: Iterable[str]) -> str:
    """Names of columns as a message lists them."""
    given = [shown_name(name) for name in names if name]
    return ", ".join([*given[:_MOST_NAMES], *(["…"] if len(given) > _MOST_NAMES else [])]) or "none"


def shown_name(name: str) -> str:
    """A column's name in one line, cut short."""
    return repr(cut(name, _SHOWN))
