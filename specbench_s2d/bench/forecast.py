"""What a run will take, before anything is loaded: cells, memory, and the least time that memory traffic allows."""

from __future__ import annotations

from typing import Any

import torch

from specbench_s2d.bench.energy import pass_forecast
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.session import prompts_for
from specbench_s2d.measure.bandwidth import read_rate
from specbench_s2d.measure.energy.choose import choose_meter
from specbench_s2d.models.hf import context_of
from specbench_s2d.models.load import DTYPES, read_config

_PROBE_BYTES = 2**28  # a glance: the run itself measures over a larger buffer


def forecast(plan: Plan) -> dict[str, Any]:
    """Per target: drafts, template, cells, bytes of weights and cache, and seconds at the memory bound.

    The time is AR's: every new token reads the target's weights once. Prefill, scoring and Python come on top;
    speculation takes off. Raises `UserError` for a pair of models, an exit or a template that does not fit.
    """
    spec = plan.spec
    size = DTYPES[spec.dtype or "float32"].itemsize
    rate = read_rate(spec.device or "cpu", _PROBE_BYTES)
    cells = plan.cells // len(spec.target)
    rows: list[dict[str, Any]] = []
    for target in spec.target:
        weights = _weight_bytes(plan, target, size)
        drafts = sum(_weight_bytes(plan, name, size) for name in plan.drafts(target))
        tokens = cells * (spec.max_new_tokens or 1)
        rows.append(
            {
                "target": target,
                "drafts": [plan.checkpoints[name].name for name in plan.drafts(target)],
                "template": prompts_for(plan, target).template.name,
                "cells": cells,
                "memory_bytes": weights + drafts + _cache_bytes(plan, target, size),
                "expected_s": tokens * weights / rate,
            }
        )
    expected_s = float(sum(row["expected_s"] for row in rows))
    return {
        "cells": plan.cells,
        "device": spec.device,
        "dtype": spec.dtype,
        "decoders": plan.labels,
        "questions": len(plan.questions),
        "max_new_tokens": spec.max_new_tokens,
        "read_rate_bytes_per_s": rate,
        "targets": rows,
        "expected_s": expected_s,
        "energy": _energy(plan, expected_s),
        "note": f"time: each token reads the weights once, at {rate / 1e9:.1f} GB/s (now); expect 1 to 3 times it",
    }


def _energy(plan: Plan, timing_s: float) -> dict[str, str | float | None]:
    """The energy pass on top of it; raises `UserError` for a meter asked for that cannot be read."""
    choice = choose_meter(plan.spec.energy or "off", plan.spec.device or "cpu")
    expected = pass_forecast(plan, choice, timing_s)
    if choice.meter:
        choice.meter.close()
    return expected


def _weight_bytes(plan: Plan, name: str, size: int) -> int:
    """Bytes of a checkpoint's weights in the run's number format: its files hold `dtype` of their own."""
    found = plan.checkpoints[name]
    stored = sum(file.stat().st_size for file in found.weight_files)
    stated = read_config(found).dtype
    return stored * size // (stated or torch.float16).itemsize


def _cache_bytes(plan: Plan, name: str, size: int) -> int:
    """Bytes of a full context of keys and values."""
    config = read_config(plan.checkpoints[name]).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * context_of(config, name) * size)
