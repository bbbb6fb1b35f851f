"""The figures that the papers and the Spec-Bench leaderboard publish, as one tidy table, each with its source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from specbench_s2d.errors import UnknownNameError, UserError, first_line
from specbench_s2d.resources import data_folder

FILES = ("leaderboard.csv", "papers.csv")
COLUMNS = (
    "paper", "target", "temperature", "device", "draft_sampling", "method", "suite", "metric", "value", "source",
)  # fmt: skip
METRICS = ("speedup", "mean_accepted_tokens", "accuracy_percent", "energy_ratio", "perplexity_reduction_percent")
_OPTIONAL = frozenset({"temperature", "device", "draft_sampling"})
_TEXT = tuple(c for c in COLUMNS if c not in ("temperature", "value"))


def published(paper: str | None = None) -> pd.DataFrame:
    """Published figures in the columns of `COLUMNS`, of one paper (`s2d`, `mjsd`, `spec-bench` …) or of all.

    Missing temperature, device or draft sampling: the source does not say. Raises `UnknownNameError` for a paper
    that is not there.
    """
    folder = data_folder("results/published")
    table = pd.concat([read_published(folder / name) for name in FILES], ignore_index=True)
    if paper is None:
        return table
    if paper not in set(table["paper"]):
        raise UnknownNameError.of("paper", paper, set(table["paper"]))
    return table[table["paper"] == paper].reset_index(drop=True)


def read_published(path: Path) -> pd.DataFrame:
    """One file of published figures, checked; raises `UserError` naming the file, the line and what was expected."""
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path}: not a readable CSV file of published figures ({first_line(error)}).") from error
    required = [column for column in COLUMNS if column not in _OPTIONAL]
    absent = [column for column in required if column not in table]
    unknown = [str(column) for column in table if column not in COLUMNS]
    if absent or unknown:
        given = f"lacks {', '.join(absent)}" if absent else f"has unknown columns {', '.join(unknown)}"
        raise UserError(f"{path}: {given}; expected the columns {', '.join(COLUMNS)}.")
    table = table.reindex(columns=list(COLUMNS))
    _check_numbers(table, path)
    _refuse(table, table[required].isna().any(axis=1), path, f"a row fills {', '.join(required)}")
    _refuse(table, ~table["metric"].isin(METRICS), path, f"metric is one of {', '.join(METRICS)}")
    _refuse(table, table.duplicated([c for c in COLUMNS if c not in ("value", "source")]), path, "one row per figure")
    return table


def _check_numbers(table: pd.DataFrame, path: Path) -> None:
    """Turn value and temperature into floats, in place; a value is positive, a temperature at least 0."""
    for column, least in (("value", np.nextafter(0, 1)), ("temperature", 0.0)):
        numbers = pd.to_numeric(table[column], errors="coerce").astype("float64")
        wrong = table[column].notna() & ~(np.isfinite(numbers) & (numbers >= least))
        _refuse(table, wrong, path, f"{column} is a {'positive number' if column == 'value' else 'number from 0'}")
        table[column] = numbers
    for column in _TEXT:
        table[column] = table[column].astype("object").where(table[column].notna(), None)


def _refuse(table: pd.DataFrame, wrong: pd.Series[bool], path: Path, expected: str) -> None:
    if wrong.any():
        first = int(np.argmax(wrong.to_numpy()))
        row = ", ".join(str(v) for v in table.iloc[first] if pd.notna(v))
        raise UserError(f"{path}, line {first + 2}: {row}: expected that {expected}.")
