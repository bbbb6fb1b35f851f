"""The demo family that ships with the package."""

from __future__ import annotations

import json
from typing import Any

from specbench_s2d.resources import demo_folder


def demo_names() -> list[str]:
    """Members of the embedded family that are there."""
    return sorted(path.parent.name for path in demo_folder().glob("demo-*/config.json"))


def demo_models() -> list[dict[str, Any]]:
    """One row per model: size, training tokens, held-out perplexity, bytes."""
    rows = []
    for name in demo_names():
        folder = demo_folder() / name
        facts = json.loads((folder / "training.json").read_text(encoding="utf-8-sig"))
        rows.append(
            {
                "name": name,
                "layers": facts["shape"]["layers"],
                "width": facts["shape"]["width"],
                "parameters": facts["shape"]["parameters"],
                "tokens": facts["tokens"] + facts["tokens_inherited"],
                "held_out_perplexity": round(facts["validation_perplexity"]["all"], 2),
                "bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")),
                "base": facts["base"],
            }
        )
    return rows
