"""A run in the formats of others: Spec-Bench's answer files, flat tables as CSV or Parquet, a leaderboard as text."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from specbench_s2d.analysis.metrics.columns import QUALITY
from specbench_s2d.analysis.metrics.pairs import latest
from specbench_s2d.analysis.report.write import read_run
from specbench_s2d.analysis.tables.csv_text import csv_text
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.analysis.tables.text import TextTable
from specbench_s2d.errors import RunFolderError, UserError, find_name
from specbench_s2d.exchange import leaderboard
from specbench_s2d.exchange.spec_bench import AnswerFile, answer_files
from specbench_s2d.files import cause, remedy, replacing, why_no_folder
from specbench_s2d.measure.divergence import Divergence
from specbench_s2d.runs.fields import Field, fields_of
from specbench_s2d.runs.folder import MANIFEST, RECORDS, read_manifest
from specbench_s2d.runs.record import Record

Files = dict[str, bytes]
"""What to write, by file name."""
_TYPES: dict[Any, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
_LONGEST_NAME = 150  # of a file, in characters: file systems take 255 bytes


@dataclass(frozen=True)
class Export:
    """What was written, and what was left out and why."""

    written: list[Path]
    notes: list[str]


def export(run: Path, form: str, out: Path, safe_csv: bool = False) -> Export:
    """Write a run's folder in the format `form` into the folder `out`; each file is whole or not there.

    Files of the same names are replaced, others left alone. `safe_csv`: no cell of a CSV file that a spreadsheet takes
    for a formula. Raises `UnknownNameError` for a format that is none,
    `RunFolderError` for a run that cannot be read or a folder that cannot be written, and `UserError` where the run has
    nothing that the format could hold.
    """
    form = find_name("format", form, FORMATS, others={"tex": "latex", "md": "markdown"})
    if any((out / name).exists() for name in (MANIFEST, RECORDS)):
        raise RunFolderError(f"--out {out}: is the folder of a run, whose tables it would replace; give another.")
    if why := why_no_folder(out):
        raise RunFolderError(f"--out {out}: {why}; give another.")
    if safe_csv and form != "csv":
        raise UserError(f"--safe-csv: --format {form} writes no CSV; give --format csv, or leave it out.")
    records = latest(read_run(run))
    manifest = read_manifest(run) if (run / MANIFEST).is_file() else {}
    files, notes = _csv(records, manifest, safe_csv) if form == "csv" else FORMATS[form](records, manifest)
    if not files:
        raise UserError(f"{run}: nothing to export as {form}: {'; '.join(notes)}.")
    return Export(_write(files, out), notes)


def _spec_bench(records: Sequence[Record], manifest: Mapping[str, Any]) -> tuple[Files, list[str]]:
    started = manifest.get("started")
    found, notes = answer_files(records, datetime.fromisoformat(started).timestamp() if started else None)
    return {name: file.text().encode() for name, file in file_names(found).items()}, notes


def file_names(files: Sequence[AnswerFile]) -> dict[str, AnswerFile]:
    """A name for each file that every file system takes: letters, digits, dots and dashes, the rest as `_`.

    Where two would be one (upper and lower case alike), or one would be too long, a hash of the model_id tells which.
    """
    plain = {file.model_id: re.sub(r"[^A-Za-z0-9.-]+", "_", file.model_id).lstrip(".-") for file in files}
    alike = Counter(name.lower() for name in plain.values())
    found = {}
    for file in files:
        name = plain[file.model_id]
        if alike[name.lower()] > 1 or len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}-{sha256(file.model_id.encode()).hexdigest()[:8]}"
        found[f"{name}-repeat-{file.repeat}.jsonl"] = file
    return found


def _csv(records: Sequence[Record], _: Mapping[str, Any], safe: bool = False) -> tuple[Files, list[str]]:
    rows = [{name: _json(value) for name, value in row.items()} for row in _flat(records)]
    tables = {"summary.csv": summary_table(records), "records.csv": pd.DataFrame(rows, dtype="object")}
    return {name: csv_text(table, safe).encode() for name, table in tables.items()}, []


def _parquet(records: Sequence[Record], _: Mapping[str, Any]) -> tuple[Files, list[str]]:
    tables = {
        "summary.parquet": pa.Table.from_pandas(summary_table(records), preserve_index=False),
        "records.parquet": pa.Table.from_pylist(_flat(records), schema=_schema(records)),
    }
    return {name: _parquet_bytes(table) for name, table in tables.items()}, []


def _parquet_bytes(table: pa.Table) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def _board(
    text: Callable[[list[TextTable]], str], name: str, paper: bool
) -> Callable[[Sequence[Record], Mapping[str, Any]], tuple[Files, list[str]]]:
    """The writer of one file with the leaderboard as `text` makes it."""

    def write(records: Sequence[Record], manifest: Mapping[str, Any]) -> tuple[Files, list[str]]:
        return {name: text(leaderboard.boards(summary_table(records), manifest, paper)).encode()}, []

    return write


FORMATS: dict[str, Callable[[Sequence[Record], Mapping[str, Any]], tuple[Files, list[str]]]] = {
    "spec-bench": _spec_bench,
    "csv": _csv,
    "parquet": _parquet,
    "latex": _board(leaderboard.latex, "leaderboard.tex", paper=True),
    "markdown": _board(leaderboard.markdown, "leaderboard.md", paper=False),
}


def _flat(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Records as rows: task quality and the divergence spread over columns, other objects as JSON text."""
    rows = []
    for record in records:
        row = record.model_dump()
        quality, divergence = row.pop("quality") or {}, row.pop("divergence") or {}
        row = {name: _json(value) if isinstance(value, dict) else value for name, value in row.items()}
        row["question_id"] = str(row["question_id"])
        rows.append({**row, **_prefixed("divergence", divergence), **_prefixed("quality", quality)})
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def _json(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _schema(records: Sequence[Record]) -> pa.Schema:
    """The flat table's columns with the types that the record declares, whatever is in them."""
    declared = {**fields_of(Record), **_prefixed("divergence", fields_of(Divergence))}
    names = _flat(records)[0]
    return pa.schema([(name, _arrow(name, declared)) for name in names])


def _arrow(name: str, declared: Mapping[str, Field]) -> pa.DataType:
    if name.startswith(QUALITY) and name not in declared:
        return pa.float64()
    kind = _TYPES.get(declared[name].kind, pa.string())
    return pa.list_(kind) if declared[name].is_list else kind


def _write(files: Files, out: Path) -> list[Path]:
    """Every file under another name first, then all at their own."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for name, content in files.items():
                stack.enter_context(replacing(out / name)).write_bytes(content)
    except OSError as error:
        raise RunFolderError(
            f"--out {out}: cannot be written ({cause(error)}); {remedy(error, 'mend that')}, or give another folder."
        ) from error
    return [out / name for name in files]
