"""What a run will take, before anything is loaded: cells, memory, and the least time that memory traffic allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from specbench_s2d.bench.blocks import cut, simulate
from specbench_s2d.bench.energy_pass import energy_forecast
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.preflight import TargetSetup, check_inputs
from specbench_s2d.measure.bandwidth import read_rate
from specbench_s2d.measure.energy.choose import choose_meter
from specbench_s2d.models.devices import free_by_device

_PROBE_BYTES = 2**28  # a glance: the run itself measures over what a step reads


def forecast(plan: Plan, workers: int | None = None, setups: Mapping[str, TargetSetup] | None = None) -> dict[str, Any]:
    """Per target: drafts, template, cells, the memory plan of each model, and seconds at the memory bound; for
    `workers` devices also the blocks, and how their hand-out is expected to go. `setups`: the targets', where they are
    checked already.

    The time is AR's: every new token reads the target's weights once. Prefill, scoring and Python come on top;
    speculation takes off. Raises `UserError` for inputs that do not go together, and for a meter that cannot be read.
    """
    spec, setups = plan.spec, setups or check_inputs(plan)
    rate = read_rate(plan.device, _PROBE_BYTES)
    free = free_by_device(plan.target_device)
    rows: list[dict[str, Any]] = []
    for target in plan.targets:
        setup, cells = setups[target], plan.cells_of(target)
        tokens = cells * plan.new_tokens
        rows.append(
            {
                "target": target,
                "drafts": [plan.models[name].name for name in plan.drafts(target)],
                "template": setup.prompts.template.name,
                "cells": cells,
                "memory": [one.facts() for one in (*setup.memory, *setup.indexes)],
                "memory_bytes": sum(one.total_bytes for one in setup.plans_on(plan.target_device)),
                "expected_s": tokens * setup.memory[0].weights_bytes / rate,
            }
        )
    expected_s = float(sum(row["expected_s"] for row in rows))
    return {
        "cells": plan.cells,
        "device": spec.device,
        "dtype": spec.dtype,
        "free_bytes": sum(free.values()),
        "free_bytes_by_device": free,
        "launches": spec.launches,
        "decoders": plan.labels,
        "questions": len({(q.suite, q.id) for target in plan.targets for q in plan.asked(target)}),
        "max_new_tokens": spec.max_new_tokens,
        "read_rate_bytes_per_s": rate,
        "targets": rows,
        "expected_s": expected_s,
        "energy": _energy(plan, expected_s),
        **({"workers": _on_workers(plan, rows, workers)} if workers else {}),
        "note": f"time: each token reads the weights once, at {rate / 1e9:.1f} GB/s (now); expect 1 to 3 times it",
    }


def _on_workers(plan: Plan, rows: Sequence[Mapping[str, Any]], workers: int) -> dict[str, Any]:
    """Blocks, memory and time on so many devices that are like this one, at the rate at which one reads alone.

    Every launch hands out the same blocks. Loading is taken to need `LOADING_S` and a second per gigabyte of weights.
    """
    launches = plan.spec.launches
    work = {row["target"]: row["expected_s"] / launches for row in rows}
    weights = {row["target"]: row["memory"][0]["weights_bytes"] for row in rows}
    blocks = cut(plan, work, workers)
    expected = simulate(blocks, workers, weights)
    memory = {row["target"]: row["memory_bytes"] for row in rows}
    held = [max((memory[target] for target in loaded), default=0) for loaded in expected.loaded]
    return {
        "count": workers,
        "blocks": len(blocks),
        "blocks_by_target": {target: sum(block.target == target for block in blocks) for target in plan.targets},
        "largest_block_s": max(block.work for block in blocks),
        "memory_bytes_by_worker": held,
        "targets_by_worker": expected.loaded,
        "expected_s": expected.seconds * launches,
        "idle_share": expected.idle_share,
    }


def _energy(plan: Plan, timing_s: float) -> dict[str, str | float | None]:
    """Metering on top of it; raises `UserError` for a meter asked for that cannot be read."""
    choice = choose_meter(plan.spec.energy or "off", plan.target_device)
    expected = energy_forecast(plan, choice, timing_s)
    choice.close()
    return expected
