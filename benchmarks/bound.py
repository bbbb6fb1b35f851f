"""The bound: AR in fresh processes, each with the read rate that it measured and its share of what that rate allows.

    python benchmarks/bound.py [--runs 5] [--target demo-s --target demo-m --target demo-l] [--out FILE]

A bound holds where no run passes 100 %, and is of use where runs agree on it. One row per run and target: the rate, its
interval (a tenth of the rounds was slower; the fastest round), the bytes it was measured over, and AR's share in %.
Measure at rest: `conditions` of each run are kept, and named in the table.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from figures import TARGETS, Targets, measured, show, write

from specbench_s2d.analysis.metrics.speed import percent_of_bound
from specbench_s2d.runs.folder import read_manifest, read_records

MIB = 2**20


def one_run(number: int, targets: list[str], limit: int, folder: Path) -> list[dict[str, Any]]:
    """AR on each target in a process of its own; a row per target."""
    named = [word for target in targets for word in ("--target", target)]
    given = [*named, "--decoder", "ar", "--limit", str(limit), "--device", "cpu", "--energy", "off"]
    command = [sys.executable, "-m", "specbench_s2d", "run", *given, "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    manifest, records = read_manifest(folder), read_records(folder)
    conditions = [f"{c['about']} {c['what']} ({c['at']})" for c in manifest["conditions"]]
    return [
        {
            "run": number,
            "target": target,
            "percent_of_bound": percent_of_bound([r for r in records if r.target == target]).value,
            **manifest["targets"][target]["read_rate"],
            "load": manifest["targets"][target]["load"],
            "conditions": conditions,
        }
        for target in targets
    ]


def shown(row: dict[str, Any]) -> list[str]:
    """A line of the table."""
    rate, low, high = (row[f"{end}bytes_per_s"] / 1e9 for end in ("", "low_", "high_"))
    found = ["beyond the bound"] if row["percent_of_bound"] > 100 else []
    found += ["not at rest"] if row["conditions"] else []
    return [
        row["target"], str(row["run"]), f"{rate:.1f}", f"{low:.1f}–{high:.1f}", f"{row['buffer_bytes'] / MIB:.1f}",
        str(row["threads"]), f"{row['percent_of_bound']:.1f}", ", ".join(found),
    ]  # fmt: skip


def main(
    runs: Annotated[int, typer.Option(min=1, help="Fresh processes.")] = 5,
    target: Targets = None,
    limit: Annotated[int, typer.Option(min=1, help="Questions a suite.")] = 5,
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/bound.json"),
) -> None:
    """Print and write AR's share of the bound, with the rate, run by run."""
    targets, rows = target or TARGETS, list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, runs + 1):
            rows += one_run(number, targets, limit, Path(folder) / str(number))
    headings = ["target", "run", "GB/s", "interval", "over, MiB", "threads", "% of bound", ""]
    show("AR and the rate that bounds it", headings, map(shown, sorted(rows, key=lambda row: str(row["target"]))))
    write(out, {**measured("AR's share of the bound, by run; see benchmarks/bound.py"), "rows": rows})


if __name__ == "__main__":
    typer.run(main)
