"""What a nested draft's stages and exit checks cost beside a target pass, timed as the loop takes them.

    python benchmarks/stages.py [--draft demo-draft] [--target demo-s --target demo-m --target demo-l] [--out FILE]

For each target: milliseconds of a target pass by width and, after a target pass (cold) and once more (warm), of each
draft stage's layers and of its exit check (final norm, head, likeliest token). Medians on a CPU, where nothing is left
running when a call returns.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from specbench_s2d import load_model
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.load import hide_progress_bars
from specbench_s2d.models.nested import NestedDraft

PROMPT, WIDTHS, ROUNDS = 150, (1, 2, 3, 4, 5, 6, 9), 40
PROMPT_IDS = torch.tensor([[1 + i % 500 for i in range(PROMPT)]])


def measure(target: LanguageModel, draft: LanguageModel) -> dict[str, Any]:
    """Medians in milliseconds: `verify_ms` by width; layers and exit checks by the exit's depth, cold and warm."""
    nested = NestedDraft(draft)
    target.reset()
    target.extend(PROMPT_IDS, last_only=True)
    nested.prefill(PROMPT_IDS[0].tolist())
    seen: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for width in WIDTHS:
            started = perf_counter()
            target.extend(PROMPT_IDS[:, :width])[0].argmax(-1).tolist()
            seen["verify_ms", width].append(perf_counter() - started)
            target.rollback(PROMPT)
            for state in ("cold", "warm"):
                _time_stages(nested, state, seen)
            nested.rollback(PROMPT)
    rows: dict[str, Any] = defaultdict(dict)
    for (what, key), seconds in seen.items():
        rows[what][key] = round(1e3 * median(seconds), 4)
    return rows


def _time_stages(nested: NestedDraft, state: str, seen: dict[tuple[str, int], list[float]]) -> None:
    for stage, depth in enumerate(nested.exits):
        started = perf_counter()
        nested.run(stage, [1])
        ran = perf_counter()
        nested.most_likely()
        seen[f"layers_{state}_ms", depth].append(ran - started)
        seen[f"check_{state}_ms", depth].append(perf_counter() - ran)


def show(draft: str, rows: dict[str, dict[str, Any]]) -> None:
    """One row per target and exit."""
    table = Table(title=f"{draft}: layers and exit checks of each stage, ms", box=None)
    for column in ("target", "pass, 1", "pass, 6", "exit", "layers cold", "check cold", "layers warm", "check warm"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        for depth in row["check_warm_ms"]:
            stage = [row[f"{part}_{state}_ms"][depth] for state in ("cold", "warm") for part in ("layers", "check")]
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
