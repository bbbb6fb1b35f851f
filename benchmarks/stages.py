"""What a nested draft's stages and exit checks cost beside a target pass, timed as the loop takes them.

    python benchmarks/stages.py [--draft demo-draft] [--target demo-s --target demo-m --target demo-l] [--out FILE]

For each target: milliseconds of a target pass by width and, after a target pass (cold) and once more (warm), of each
draft stage with its exit check; apart, of its layers and of the check (final norm, head, likeliest token). Medians as
`measure/pass_costs.py` takes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from figures import TARGETS, Targets, load, measured, show, write

from specbench_s2d.measure.pass_costs import Cost, pass_costs
from specbench_s2d.models.base import LanguageModel

WIDTHS, CONTEXT = (1, 2, 3, 4, 5, 6, 9), 150
PARTS = ("cold", "warm", "layers", "check")


def measure(target: LanguageModel, draft: LanguageModel) -> dict[str, Any]:
    """Medians in milliseconds: `verify_ms` by width; by the exit's depth the stage cold and warm, and its parts."""
    costs = pass_costs(target, draft, WIDTHS, CONTEXT, rounds=40)

    def by_depth(part: str) -> dict[int, float]:
        return {stage.depth: _ms(getattr(stage, part)) for stage in costs.stages}

    return {
        "verify_ms": {width: _ms(cost) for width, cost in costs.verify.items()},
        **{f"{part}_ms": by_depth(part) for part in PARTS},
    }


def _ms(cost: Cost) -> float:
    return round(1e3 * cost.median_s, 4)


def main(
    draft: Annotated[str, typer.Option(help="A nested draft.")] = "demo-draft",
    target: Targets = None,
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/stages.json"),
) -> None:
    """Print and write pass costs of targets and of a draft's stages."""
    model, *loaded = load(draft, *(target or TARGETS))
    rows = {each.name: measure(each, model) for each in loaded}
    show(
        f"{model.name}: layers and exit checks of each stage, ms",
        ["target", "pass, 1", "pass, 6", "exit", "stage cold", "stage warm", "its layers", "its check"],
        (
            [name, row["verify_ms"][1], row["verify_ms"][6], depth, *(row[f"{part}_ms"][depth] for part in PARTS)]
            for name, row in rows.items()
            for depth in row["check_ms"]
        ),
    )
    facts = {**measured("milliseconds; see benchmarks/stages.py"), "threads": torch.get_num_threads()}
    write(out, {**facts, "exits": model.exits, "draft": model.name, "targets": rows})


if __name__ == "__main__":
    typer.run(main)
