"""The tables of `results/published` as rows of text, checked: the file, its columns, and what each cell may say."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from specbench_s2d.display import cut
from specbench_s2d.errors import UserError, in_one_line
from specbench_s2d.resources import data_folder

_SHOWN = 60  # characters of a cell, in an error


class Column(NamedTuple):
    """What a cell of a column may say; `lacking`: the file need not have the column, which is empty then."""

    expected: str
    pattern: str
    lacking: bool = False


TEXT, TEXT_OR_NONE = Column("text", ".+"), Column("text", ".*")
POSITIVE = Column("a positive number below a billion", r"(?=.*[1-9])\d{1,9}(\.\d{1,20})?")


def one_of(*choices: str) -> Column:
    """A column of these alone."""
    return Column(f"one of {', '.join(choices)}", "|".join(map(re.escape, choices)))


def read_package_table(name: str, columns: Mapping[str, Column], key: Sequence[str]) -> list[dict[str, str]]:
    """The same of a file of the package."""
    return read_table(data_folder("results/published") / name, columns, key)


def read_table(path: Path, columns: Mapping[str, Column], key: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file in these columns; no two have the same `key`, whatever the case.

    Raises `UserError` naming the file, the line and what was expected.
    """
    lines = _lines(path)
    header = lines[0][1] if lines else []
    absent = [name for name, column in columns.items() if name not in header and not column.lacking]
    unknown = [cut(name, _SHOWN) for name in header if name not in columns]
    if absent or unknown or len(set(header)) < len(header):
        given = f"has unknown columns {', '.join(unknown)}" if unknown else "names a column twice"
        given = f"lacks {', '.join(absent)}" if absent else given
        raise UserError(f"{path}: {given}; expected the columns {', '.join(columns)}.")
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for number, cells in lines[1:]:
        row = dict.fromkeys(columns, "") | dict(zip(header, cells, strict=False))
        wrong = _fault(row, columns, header, cells)
        if rows.setdefault(tuple(row[name].lower() for name in key), row) is not row:
            wrong = wrong or "there is one row per figure"
        if wrong:
            raise UserError(
                f"{path}, line {number}: {', '.join(cut(cell, _SHOWN) for cell in cells)}: expected that {wrong}."
            )
    return list(rows.values())


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a file that hold anything, by their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            return [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV file of published figures ({in_one_line(error)}).") from error


def _fault(row: Mapping[str, str], columns: Mapping[str, Column], header: Sequence[str], cells: Sequence[str]) -> str:
    """What was expected of a row that is wrong; nothing of a sound one."""
    if len(cells) != len(header):
        return f"a row has {len(header)} cells"
    for name in header:
        if not re.fullmatch(columns[name].pattern, row[name], re.ASCII) or not row[name].isprintable():
            return f"{name} is {columns[name].expected}" if row[name] else f"a row fills {name}"
    return ""
