"""The demo family that ships with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from specbench_s2d.resources import demo_folder


def demo_names() -> list[str]:
    """Members of the embedded family that are there."""
    return sorted(path.parent.name for path in demo_folder().glob("demo-*/config.json"))


def demo_models() -> list[dict[str, Any]]:
    """One row per model: size, training tokens, held-out perplexity, bytes."""
    rows = []
    for name in demo_names():
        row, facts = trained_row(demo_folder() / name)
        last = {part: row.pop(part) for part in ("bytes", "base")}
        rows.append({**row, "held_out_perplexity": round(facts["validation_perplexity"]["all"], 2), **last})
    return rows


def trained_row(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What every list says of a model that ships: its name, layers, width, parameters, training tokens, bytes and base;
    and all that its `training.json` says."""
    facts = json.loads((folder / "training.json").read_text(encoding="utf-8-sig"))
    row = {
        "name": folder.name,
        **{part: facts["shape"][part] for part in ("layers", "width", "parameters")},
        "tokens": facts["tokens"] + facts["tokens_inherited"],
        "bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        "base": facts["base"],
    }
    return row, facts
