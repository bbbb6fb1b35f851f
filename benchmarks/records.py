"""Many records: seconds, CPU seconds and peak memory of `report` and `check` on grids of up to a million records.

    python benchmarks/records.py [--questions 60 --questions 480] [--folder FOLDER] [--out FILE]

A grid is made from a committed run: 10 targets, 20 decoders, 3 launches and as many questions as are asked for, in six
suites, of which one has two turns: 700 records for each question. Keys, question ids, times and output ids are new,
lengths, steps and scores those of the run. `check` judges the grid against itself, so it reads it twice. Each command
runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from figures import measured, show, write

from specbench_s2d.runs.folder import MANIFEST, RECORDS, read_manifest, read_records, write_manifest_file

TARGETS, DECODERS = 10, 20
_TIMES = ("prefill_s", "decode_s", "total_s", "draft_s", "verify_s", "other_s", "bound_s")
_COLUMNS = ("records", "command", "seconds", "cpu_s", "peak_mb")


def records_of(run: Path, questions: int) -> Iterator[dict[str, Any]]:
    """The grid's records, of the run's own shape, in the order of a real run: launch, target, question, decoder."""
    kept = [json.loads(record.model_dump_json()) for record in read_records(run)]
    theirs, labels = (list(dict.fromkeys(r[field] for r in kept)) for field in ("target", "label"))
    asked = list(dict.fromkeys((r["suite"], r["question_id"]) for r in kept))
    by_place: dict[Any, list[dict[str, Any]]] = {}
    for r in kept:
        by_place.setdefault((r["launch"], r["target"], r["suite"], r["question_id"], r["label"]), []).append(r)
    draw = random.Random(0)
    for launch in range(3):
        for target in range(TARGETS):
            for question in range(questions):
                suite, name = asked[question % len(asked)]
                for decoder in range(DECODERS):
                    label = labels[decoder % len(labels)]
                    for r in by_place[launch, theirs[target % len(theirs)], suite, name, label]:
                        again = f",copy={decoder // len(labels)}" if decoder >= len(labels) else ""
                        pace, moved = draw.uniform(0.9, 1.1), 31 * question + target
                        yield {
                            **r,
                            "key": f"{draw.getrandbits(128):032x}",
                            "target": f"target-{target + 1}",
                            "label": label + again,
                            "question_id": f"{name}-{question // len(asked)}",
                            "output_ids": [(i + moved) % 2048 for i in r["output_ids"] or []] or None,
                            "output_text": r["output_text"] and f"{moved} {r['output_text']}",
                            **{field: pace * r[field] for field in _TIMES if r[field] is not None},
                        }


def make(run: Path, questions: int, folder: Path) -> int:
    """Write a grid's folder; the number of its records."""
    manifest, count = read_manifest(run), 0
    folder.mkdir(parents=True)
    with (folder / RECORDS).open("w", encoding="utf-8") as file:
        for record in records_of(run, questions):
            file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    facts = list(manifest["targets"].values())
    targets = {f"target-{i + 1}": facts[i % len(facts)] for i in range(TARGETS)}
    write_manifest_file(folder / MANIFEST, {**manifest, "targets": targets, "cells": count})
    return count


def timed(command: list[str]) -> dict[str, Any]:
    """Run a command of the package in a new process: seconds, CPU seconds and peak memory."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "specbench_s2d", *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 3):  # what `check` answers
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    seconds = time.perf_counter() - start
    peak_mb = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": peak_mb}


def main(
    questions: Annotated[list[int] | None, typer.Option(min=30, help="Questions; 60 and 480 by default.")] = None,
    command: Annotated[list[str] | None, typer.Option(help="report or check; both by default.")] = None,
    run: Annotated[Path, typer.Option(help="The run that grids are made from.")] = Path("results/benchmarks/mjsd"),
    folder: Annotated[Path | None, typer.Option(help="Keep the grids here, and take those that are there.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Print, and write, what `report` and `check` take."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for asked in questions or [60, 480]:
            grid = (folder or Path(temporary)) / f"grid-{asked}"
            count = int(read_manifest(grid)["cells"]) if (grid / MANIFEST).exists() else make(run, asked, grid)
            commands = {"report": ["report", str(grid)], "check": ["check", str(grid), "--baseline", str(grid)]}
            for name in command or list(commands):
                rows.append({"records": count, "command": name, **timed(commands[name])})
                cells = ([f"{r['records']:,}", r["command"], *(f"{r[c]:,.0f}" for c in _COLUMNS[2:])] for r in rows)
                show("report and check on many records", _COLUMNS, cells)
    if out:
        write(out, {**measured("report and check on many records; see benchmarks/records.py"), "rows": rows})


if __name__ == "__main__":
    typer.run(main)
