"""What a run will take, before anything is loaded: cells, memory, and the least time that memory traffic allows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from specbench_s2d.bench.plan import Plan
from specbench_s2d.models.load import DTYPES

_PROBE_BYTES = 2**28


def forecast(plan: Plan) -> dict[str, Any]:
    """Per target: cells, bytes of weights and cache (drafts included), and seconds at the memory bound.

    The time is AR's: every new token reads the target's weights once. Prefill, scoring and Python come on top;
    speculation takes off.
    """
    spec = plan.spec
    size = DTYPES[spec.dtype or "float32"].itemsize
    rate = read_rate(spec.device or "cpu")
    cells = plan.cells // len(spec.target)
    drafts = sum(_weight_bytes(plan, name, size) for name in {lane.draft for lane in plan.lanes if lane.draft})
    rows = []
    for target in spec.target:
        weights = _weight_bytes(plan, target, size)
        tokens = cells * (spec.max_new_tokens or 1)
        rows.append(
            {
                "target": target,
                "cells": cells,
                "memory_bytes": weights + drafts + _cache_bytes(plan, target, size),
                "expected_s": tokens * weights / rate,
            }
        )
    return {
        "cells": plan.cells,
        "device": spec.device,
        "dtype": spec.dtype,
        "decoders": [lane.label for lane in plan.lanes],
        "questions": len(plan.questions),
        "max_new_tokens": spec.max_new_tokens,
        "read_rate_bytes_per_s": rate,
        "targets": rows,
        "expected_s": sum(row["expected_s"] for row in rows),
        "note": f"time: each token reads the weights once, at {rate / 1e9:.1f} GB/s (now); expect 1 to 3 times it",
    }


def read_rate(device: str) -> float:
    """Bytes per second of a streaming read on the device, the best of five over 256 MiB."""
    buffer = torch.zeros(_PROBE_BYTES // 4, device=device)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        buffer.sum().item()
        best = min(best, time.perf_counter() - started)
    return _PROBE_BYTES / best


def _weight_bytes(plan: Plan, name: str, size: int) -> int:
    """Bytes of a checkpoint's weights in the run's number format: its files hold `dtype` of their own."""
    found = plan.checkpoints[name]
    stored = sum(file.stat().st_size for file in found.weight_files)
    config = _config(found.folder)
    own = DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")), torch.float16).itemsize
    return stored * size // own


def _cache_bytes(plan: Plan, name: str, size: int) -> int:
    """Bytes of a full context of keys and values."""
    config = _config(plan.checkpoints[name].folder)
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return int(2 * config["num_hidden_layers"] * heads * width * config["max_position_embeddings"] * size)


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config
