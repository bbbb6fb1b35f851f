"""Records to the summary table: one row per target, label and suite, with the columns of `metrics/columns.py`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from specbench_s2d.analysis.metrics.columns import COLUMNS, IN_NOTES, NOTES, Column, quality_column
from specbench_s2d.analysis.metrics.pairs import Group, latest
from specbench_s2d.analysis.metrics.quality import metrics_of
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.config import SUITES
from specbench_s2d.display import visible
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import BASELINE, RESERVED, Record

OVERALL, MEAN_TARGET = RESERVED["suite"], RESERVED["target"]
"""What stands as suite in rows over all suites, and as target in rows that average a run's targets."""
Key = tuple[str, str, str]
"""Which row: target, label, suite."""
Row = dict[str, Any]
"""A row of a table, by column."""


def summary_table(records: Iterable[Record]) -> pd.DataFrame:
    """One row per target, label and suite, `overall` last; columns as in `COLUMNS`, then quality, then `notes`.

    Where there are several targets, rows of the target `MEAN_TARGET` follow.
    Counts are nullable integers, other values floats, both null where nothing can be said (`notes` says why).
    All records must be of one run on one device: that is what makes them comparable.
    """
    kept = latest(records)
    quality = [quality_column(metric) for metric in metrics_of(kept)]
    rows: dict[Key, Row] = {}
    for group in row_groups(kept):
        parts = [rows.get((t, group.label, group.suite), {}) for t in group.targets if t != group.target]
        rows[group.target, group.label, group.suite] = _row(replace(group, parts=parts) if parts else group, quality)
        group.free()
    columns = [*COLUMNS, *quality]
    table = pd.DataFrame(list(rows.values()), columns=[*(name for c in columns for name in c.names), NOTES])
    return table.astype({name: dtype for column in columns for name, dtype in column.dtypes.items()})


def row_groups(records: Iterable[Record]) -> Iterator[Group]:
    """Rows in reading order: targets as they first appear, their mean where there are several, AR first among labels
    and lossy ones last, Spec-Bench's suites first."""
    by_target = Records.of(records).by_value("target")
    of_targets: defaultdict[tuple[str, str], list[Group]] = defaultdict(list)
    for target, mine in by_target.items():
        for group in _groups_of(target, [target], mine):
            of_targets[group.label, group.suite].append(group)
            yield group
    if len(by_target) > 1:
        for group in _groups_of(MEAN_TARGET, list(by_target), Records.of(records)):
            yield replace(group, of_targets=of_targets[group.label, group.suite])


def _groups_of(name: str, targets: Sequence[str], records: Records) -> Iterator[Group]:
    by_label, baseline = records.by_value("label"), records.of_value("label", BASELINE)
    lossy = {label: bool(mine.numbers("lossy")[-1]) for label, mine in by_label.items()}
    for label, _ in sorted(lossy.items(), key=_label_order):
        mine = by_label[label]
        seen = mine.by_value("suite")
        for suite in (*(s for s in SUITES if s in seen), *(s for s in seen if s not in SUITES)):
            yield Group(name, label, suite, seen[suite], targets, baseline)
        yield Group(name, label, OVERALL, mine, targets, baseline)


def _label_order(item: tuple[str, bool]) -> tuple[bool, bool, list[tuple[bool, float, str]]]:
    """AR first, then the lossless, then the lossy; each by name, numbers by value (gamma=5 before gamma=10)."""
    label, lossy = item
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", label)
    return label != BASELINE, lossy, [(p[0].isdigit(), float(p) if p[0].isdigit() else 0, p) for p in parts]


def _row(group: Group, quality: Sequence[Column]) -> Row:
    """Every value of a row, both ends of those that have an interval, and the notes of what is missing or partial."""
    row: Row = {}
    notes: dict[str, str | None] = {}
    for column in (*IN_NOTES, *quality):
        found = column.value(group)
        row[column.name] = found.value if isinstance(found, Measure) else found
        notes[column.name] = found.note if isinstance(found, Measure) else None
        if column.statistic and row[column.name] is not None:
            ends = column.interval(group)
            _, low, high, questions = column.with_interval
            row |= {low: ends.low, high: ends.high, questions: ends.questions}
            notes[low] = ends.note
    # Notes are parted by semicolons: none stands within one.
    said = [f"{name}: {note.replace('; ', ', ')}" for name, note in notes.items() if note]
    return {**row, NOTES: "; ".join(said) or None}


def reasons(row: Row) -> dict[str, str]:
    """Why values of a row are missing or partial, by column, as its `notes` say."""
    said = [part.partition(": ") for part in (row[NOTES] or "").split("; ") if part]
    return {column: why for column, _, why in said}


def rows_by_target(table: pd.DataFrame) -> list[tuple[str, list[Row]]]:
    """The rows of each target (of each run, where there are several), with the title of their table."""
    runs = "run" in table.columns
    found: dict[str, list[Row]] = {}
    for row in table.to_dict("records"):
        title = f"{row['run']}: {row['target']}" if runs else str(row["target"])
        found.setdefault(visible(title), []).append({str(column): value for column, value in row.items()})
    return list(found.items())


def by_decoder(rows: Iterable[Row]) -> dict[str, dict[str, Row]]:
    """The rows of each label, by suite."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(str(row["label"]), {})[str(row["suite"])] = row
    return found


def speed_column(table: pd.DataFrame) -> str:
    """The speed-up to show: over AR in decode tokens/s, or with the prefill included where no decode time is known (an
    imported run)."""
    return "speedup" if table[["speedup", "tokens_per_s"]].notna().any(axis=None) else "speedup_e2e"


def single_targets(table: pd.DataFrame, suite: str | None = None) -> pd.DataFrame:
    """The rows of single targets, their mean left out; of one suite, where it is named."""
    rows = table[table["target"] != MEAN_TARGET]
    return rows if suite is None else rows[rows["suite"] == suite]
