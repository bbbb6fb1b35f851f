"""A run in other programs' forms: Spec-Bench's answer files, CSV, Parquet, and tables for papers."""

from __future__ import annotations

import datetime
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from specbench_s2d.analysis import leaderboard, tidy
from specbench_s2d.analysis.leaderboard import Speedup
from specbench_s2d.analysis.report import read_run
from specbench_s2d.bench.exchange import answers, file_name
from specbench_s2d.bench.records import Record
from specbench_s2d.bench.store import read_manifest
from specbench_s2d.errors import UserError

Format = Literal["spec-bench", "csv", "parquet", "latex", "markdown"]


def export(run: Path, form: Format, out: Path, speedup: Speedup = "speedup_specbench") -> tuple[list[Path], list[str]]:
    """Write a run into `out` in a form; returns the files written, and a line for whatever had to be left out.

    Files of the same names are replaced, each at once; others stay. Raises `RunFolderError` for what is no run,
    `UserError` where `out` cannot be a folder or there is nothing to write.
    """
    records, manifest = tidy.latest(read_run(run)), read_manifest(run)
    contents, lost = _contents(records, manifest, form, speedup)
    if not contents:
        raise UserError(f"{run}: nothing to export as {form}: no question was finished. {' '.join(lost)}")
    return [_replace(out / name, content) for name, content in contents.items()], lost


def _contents(
    records: Sequence[Record], manifest: Mapping[str, Any], form: Format, speedup: Speedup
) -> tuple[dict[str, bytes], list[str]]:
    """Every file's name and bytes, made before anything is written."""
    if form == "spec-bench":
        return _answer_files(records, manifest)
    table = tidy.tidy(records)
    if form in ("csv", "parquet"):
        frames = {"summary": table, "records": flat(records, nested=form == "parquet")}
        return {f"{name}.{form}": _frame_bytes(frame, form) for name, frame in frames.items()}, []
    found, text = leaderboard.boards(table, speedup), leaderboard.caption(table, manifest, speedup)
    if form == "latex":
        return {"leaderboard.tex": leaderboard.latex(found, text).encode()}, []
    return {"leaderboard.md": leaderboard.markdown(found, text).encode()}, []


def flat(records: Sequence[Record], nested: bool) -> pd.DataFrame:
    """One row per record; with `nested`, lists stay lists, else they are JSON."""
    rows = []
    for record in records:
        row = record.model_dump(mode="json")
        for name, value in row.items():
            if isinstance(value, dict) or (isinstance(value, list) and not nested):
                row[name] = json.dumps(value, ensure_ascii=False)
        row["question_id"] = str(record.question_id)
        rows.append(row)
    return pd.DataFrame(rows)


def _answer_files(records: Sequence[Record], manifest: Mapping[str, Any]) -> tuple[dict[str, bytes], list[str]]:
    """One file per target, label and repeat, the repeats in folders of their own as Spec-Bench keeps them."""
    found, lost = answers(records, datetime.datetime.fromisoformat(str(manifest["started"])).timestamp())
    files: dict[str, bytes] = {}
    for (target, label, repeat), listed in found.items():
        if listed:
            name = f"run_{repeat + 1}/{file_name(target, label)}"
            if name in files:
                raise UserError(f"{target}, {label}: another decoder's file is called {name} too; export them apart.")
            files[name] = "".join(answer.model_dump_json() + "\n" for answer in listed).encode()
    return files, lost


def _frame_bytes(frame: pd.DataFrame, form: str) -> bytes:
    if form == "csv":
        return frame.to_csv(index=False, lineterminator="\n").encode()
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> Path:
    """Write a file at once, over one of the same name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); give another --out.") from error
    return path
