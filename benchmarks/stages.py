"""What a nested draft's stages and exit checks cost beside a target pass, timed as the loop takes them.

    python benchmarks/stages.py [--draft demo-draft] [--target demo-s --target demo-m --target demo-l] [--out FILE]

For each target: milliseconds of a target pass by width and, after a target pass (cold) and once more (warm), of each
draft stage with its exit check; apart, of its layers and of the check (final norm, head, likeliest token). Medians as
`measure/pass_costs.py` takes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from specbench_s2d import load_model
from specbench_s2d.measure.pass_costs import Cost, pass_costs
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.load import hide_progress_bars

WIDTHS, CONTEXT = (1, 2, 3, 4, 5, 6, 9), 150


def measure(target: LanguageModel, draft: LanguageModel) -> dict[str, Any]:
    """Medians in milliseconds: `verify_ms` by width; by the exit's depth the stage cold and warm, and its parts."""
    costs = pass_costs(target, draft, WIDTHS, CONTEXT, rounds=40)

    def by_depth(part: str) -> dict[int, float]:
        return {stage.depth: _ms(getattr(stage, part)) for stage in costs.stages}

    return {
        "verify_ms": {width: _ms(cost) for width, cost in costs.verify.items()},
        **{f"{part}_ms": by_depth(part) for part in ("cold", "warm", "layers", "check")},
    }


def _ms(cost: Cost) -> float:
    return round(1e3 * cost.median_s, 4)


def show(draft: str, rows: dict[str, dict[str, Any]]) -> None:
    """One row per target and exit."""
    table = Table(title=f"{draft}: layers and exit checks of each stage, ms", box=None)
    for column in ("target", "pass, 1", "pass, 6", "exit", "stage cold", "stage warm", "its layers", "its check"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        for depth in row["check_ms"]:
            stage = [row[f"{part}_ms"][depth] for part in ("cold", "warm", "layers", "check")]
            passes = (row["verify_ms"][1], row["verify_ms"][6])
            table.add_row(name, *(f"{ms:.2f}" for ms in passes), str(depth), *(f"{ms:.3f}" for ms in stage))
    Console(width=110).print(table)


def main(
    draft: Annotated[str, typer.Option(help="A nested draft.")] = "demo-draft",
    target: Annotated[list[str] | None, typer.Option(help="Targets; the three demo targets by default.")] = None,
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/stages.json"),
) -> None:
    """Print and write pass costs of targets and of a draft's stages."""
    hide_progress_bars()
    model = load_model(draft, device="cpu", dtype="float32")
    loaded = [load_model(name, device="cpu", dtype="float32") for name in target or ("demo-s", "demo-m", "demo-l")]
    rows = {each.name: measure(each, model) for each in loaded}
    show(model.name, rows)
    what = "milliseconds; see benchmarks/stages.py"
    facts = {"what": what, "threads": torch.get_num_threads(), "exits": model.exits}
    out.write_text(json.dumps({**facts, "draft": model.name, "targets": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
