"""A table as CSV: every digit, missing values empty; on request no text that a spreadsheet would run as a formula."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv_text(table: pd.DataFrame, safe: bool = False) -> str:
    """The table as CSV with a line of headings, lines ending in a line feed.

    `safe`: an apostrophe stands before text, headings included, that begins with `=`, `+`, `-`, `@`, a tab or a line
    break and is no number, so that a spreadsheet shows it and computes nothing.
    """
    if safe:
        table = table.rename(columns=_harmless).apply(lambda c: c if c.dtype.kind in "biuf" else c.map(_harmless))
    return table.to_csv(index=False, lineterminator="\n")


def _harmless(value: Any) -> Any:
    is_formula = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value
