"""The generated blocks of README.md: `make readme` writes them anew, tests/test_readme.py holds the README to them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import typer.main
from rich.console import Console

from specbench_s2d.analysis.report import write as report
from specbench_s2d.analysis.tables import summary_text
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.cli.main import app
from specbench_s2d.decoding.spec import describe_decoders
from specbench_s2d.models.demo import demo_models

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
SHOWN_TARGET = "demo-l"
DEMO_RUN = ROOT / "results" / "baselines" / "demo"


def blocks() -> dict[str, str]:
    """Every generated block by its name, as it must stand between its markers."""
    return {
        "run-output": fenced(summary_text.render(run_output())),
        "commands": command_table(),
        "run-flags": flag_table("run"),
        "decoders": decoder_table(),
        "models": model_table(),
        "definitions": summary_text.definition_list(),
    }


def run_output() -> pd.DataFrame:
    """The demo run's table, of one of its targets."""
    table = summary_table(report.read_run(DEMO_RUN))
    return table[table["target"] == SHOWN_TARGET]


def fenced(renderable: Any) -> str:
    """What a terminal of 80 columns shows, as a code block."""
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(renderable)
    file = console.file
    assert isinstance(file, io.StringIO)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    return "```text\n" + "\n".join(lines).strip("\n") + "\n```"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    cells = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def command_table() -> str:
    rows = []
    for name, command in commands().items():
        rows.append([f"`{name}`", first_line(command.help)])
    return markdown(["command", "what it does"], rows)


def commands() -> dict[str, Any]:
    """Every command by what a person types, `train sft` included."""
    root: Any = typer.main.get_command(app)
    found: dict[str, Any] = {}
    for name, command in root.commands.items():
        for inner, sub in getattr(command, "commands", {"": command}).items():
            found[f"{name} {inner}".strip()] = sub
    return found


def flag_table(name: str) -> str:
    rows = []
    for parameter in commands()[name].params:
        shown = "SPEC.toml" if parameter.param_type_name == "argument" else ", ".join(parameter.opts)
        if parameter.name != "help":
            rows.append([f"`{shown}`", parameter.help or ""])
    return markdown(["flag", "meaning"], rows)


def decoder_table() -> str:
    rows = [
        [f"`{r['name']}`", r["kind"], r["output"] or "–", r["draft"] or "–", f"`{r['options']}`", r["what"]]
        for r in describe_decoders()
    ]
    return markdown(["name", "kind", "output", "draft", "options and defaults", "what it is"], rows)


def model_table() -> str:
    rows = [
        [
            f"`{m['name']}`",
            str(m["layers"]),
            str(m["width"]),
            f"{m['parameters'] / 1e6:.2f} M",
            f"{m['tokens'] / 1e6:.1f} M",
            f"{m['held_out_perplexity']:.2f}",
            m["base"],
        ]
        for m in demo_models()
    ]
    header = ["model", "layers", "width", "parameters", "tokens seen", "held-out perplexity of answers", "made from"]
    return markdown(header, rows)


def first_line(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def fill(text: str) -> str:
    """`text` with every block between its markers replaced by what it must be."""
    for name, content in blocks().items():
        pattern = re.compile(rf"(<!-- begin:{name} -->\n).*?(<!-- end:{name} -->)", re.DOTALL)
        assert pattern.search(text), f"README.md has no block {name}"
        text = pattern.sub(lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text)
    return text


if __name__ == "__main__":
    README.write_text(fill(README.read_text(encoding="utf-8")), encoding="utf-8")
