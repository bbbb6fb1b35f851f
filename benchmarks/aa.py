"""A/A: AR against itself under another name. Does the 95 % interval of the speed-up cover 1.0 about 95 times in 100?

    python benchmarks/aa.py [--runs 20] [--target demo-s --target demo-m --target demo-l] [--out FILE]

`none+token` is AR's drafter and verifier put together by hand: the same computation in a lane of its own. Each run is
the demo grid's questions with those two decoders, seeded by its number, so that the order of the two differs from run
to run. One row per run and target, and the mean over targets: the ratio, its interval, and whether 1.0 lies inside.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, summary_table
from specbench_s2d.bench.plan import make_plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.config import RunSpec
from specbench_s2d.measure.environment import environment
from specbench_s2d.models.load import hide_progress_bars

TWIN = "none+token"


def one_run(number: int, targets: list[str]) -> list[dict[str, Any]]:
    """A run of AR and its twin: per target and for their mean, the speed-up of the one over the other."""
    spec = RunSpec(target=targets, decoder=["ar", TWIN], seed=number, limit=2, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        records = execute(make_plan(spec), Path(folder) / "run").records
    table = summary_table(records)
    rows = table[(table["label"] == TWIN) & (table["suite"] == OVERALL)].to_dict("records")
    return [
        {
            "run": number,
            "target": row["target"],
            "speedup": row["speedup"],
            "low": row["speedup_low"],
            "high": row["speedup_high"],
            "covers_1": bool(row["speedup_low"] <= 1.0 <= row["speedup_high"]),
        }
        for row in rows
    ]


def coverage(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Per target: in how many runs the interval covered 1.0, and how far the ratio lay from it."""
    for target in dict.fromkeys(row["target"] for row in rows):
        own = [row for row in rows if row["target"] == target]
        widths = sorted(row["high"] - row["low"] for row in own)
        yield {
            "target": target,
            "runs": len(own),
            "covered": sum(row["covers_1"] for row in own),
            "lowest": min(row["speedup"] for row in own),
            "highest": max(row["speedup"] for row in own),
            "median_width": widths[len(widths) // 2],
        }


def show(found: list[dict[str, Any]]) -> None:
    table = Table(title=f"{TWIN} over ar: intervals that cover 1.0", box=None)
    for column in ("target", "covered", "ratios", "width of the interval"):
        table.add_column(column, justify="right")
    for row in found:
        ratios = f"{row['lowest']:.3f}–{row['highest']:.3f}"
        table.add_row(row["target"], f"{row['covered']} of {row['runs']}", ratios, f"{row['median_width']:.3f}")
    Console(width=100).print(table)


def main(
    runs: Annotated[int, typer.Option(min=1, help="Runs.")] = 20,
    target: Annotated[list[str] | None, typer.Option(help="Targets; the three demo targets by default.")] = None,
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/aa.json"),
) -> None:
    """Print and write how often the interval of AR over itself covers 1.0."""
    hide_progress_bars()
    targets, rows = target or ["demo-s", "demo-m", "demo-l"], list[dict[str, Any]]()
    for number in range(runs):
        rows += one_run(number, targets)
        last = rows[-1]
        typer.echo(f"run {number + 1}: {last['target']} {last['speedup']:.3f} [{last['low']:.3f}–{last['high']:.3f}]")
    found = list(coverage(rows))
    show(found)
    facts = {"what": f"{TWIN} over ar, decode tokens/s; see benchmarks/aa.py", "mean_row": MEAN_TARGET}
    content = {**facts, "environment": environment("cpu"), "coverage": found, "rows": rows}
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
