"""What the benchmarks share: their targets, a table on the terminal, and figures as JSON, with the machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specbench_s2d.analysis.tables.text import TextTable, number
from specbench_s2d.cli import screen
from specbench_s2d.files import write_whole

if TYPE_CHECKING:
    from specbench_s2d.models import LanguageModel

TARGETS = ["demo-s", "demo-m", "demo-l"]
Targets = Annotated[list[str] | None, typer.Option(help="Targets; the three demo targets by default.")]


def load(*names: str) -> list[LanguageModel]:
    """The models, in float32 on a CPU."""
    from specbench_s2d.models import load_model  # here, as below, so that benchmarks without models start without torch
    from specbench_s2d.models.load import hide_progress_bars

    hide_progress_bars()
    return [load_model(name, device="cpu", dtype="float32") for name in names]


def show(title: str, headings: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1, caption: str = "") -> None:
    """Print a table, whose first `left` columns hold words; numbers with a fraction get three digits."""
    texts = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    screen.stdout().print(TextTable(headings, texts, title, caption, left))


def with_ends(value: float | None, low: float | None, high: float | None) -> str:
    """A value with the ends of its interval or its quartiles, where it has them."""
    return number(value) + ("" if low is None or high is None else f" [{low:.2f}–{high:.2f}]")


def measured(what: str, device: str = "cpu") -> dict[str, Any]:
    """How a file of figures begins: `what` they are, and the machine that they were measured on."""
    from specbench_s2d.measure.environment import environment

    return {"what": what, "environment": environment(device)}


def write(out: Path, facts: Mapping[str, Any]) -> None:
    """Write figures as JSON."""
    write_whole(out, json.dumps(facts, indent=1) + "\n")
