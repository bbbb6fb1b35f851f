"""What a target of the run and its drafts take of their devices; refused, with figures, before any is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from specbench_s2d.bench.plan import Lane, Plan
from specbench_s2d.bench.prompts import Prompts
from specbench_s2d.decoding.loop import PROPOSED
from specbench_s2d.decoding.widths import Widths
from specbench_s2d.models.checkpoint import Checkpoint
from specbench_s2d.models.devices import DTYPES, SPREAD, first_device, free_by_device, free_bytes
from specbench_s2d.models.exits import config_exits
from specbench_s2d.models.graph_memory import GraphNeeds, Kinds, draft_kinds, most_kinds, target_kinds
from specbench_s2d.models.llama import why_not_lean
from specbench_s2d.models.load import read_config
from specbench_s2d.models.memory import MemoryPlan, plan_memory
from specbench_s2d.models.passes.compiled import why_not_compiled
from specbench_s2d.models.placement import check_fits, max_memory

Free = Callable[[str], int]
"""A device's free bytes."""


def memory_plans(plan: Plan, target: str, prompts: Prompts) -> list[MemoryPlan]:
    """The target's plan and each draft's, for the longest sequence that the run's questions can lead to."""
    dtype, longest = DTYPES[plan.spec.dtype or "float32"], prompts.longest(plan.questions) + PROPOSED
    given = plan.spec.device or plan.device
    lanes, found = plan.lanes[target], plan.checkpoints
    plans = [_plan(found[target], dtype, longest, given, plan.spec.engine, lanes, is_target=True)]
    for name in plan.drafts(target):
        if name != target:
            used = [lane for lane in lanes if lane.draft == name]
            plans.append(_plan(found[name], dtype, longest, plan.device, plan.spec.engine, used, is_target=False))
    return plans


def plans_together(
    found: Iterable[Checkpoint], dtype: torch.dtype, positions: int, device: str, engine: str | None
) -> list[MemoryPlan]:
    """The plans of a target and its draft whose single passes are timed: a target that verifies chains, a draft that is
    read at its last layer or at its exits."""
    target, *drafts = found
    plans = [_plan(target, dtype, positions, device, engine, (), is_target=True)]
    return plans + [_plan(one, dtype, positions, first_device(device), engine, (), is_target=False) for one in drafts]


def check_memory(plan: Plan, target: str, prompts: Prompts, free: Free = free_bytes) -> None:
    """Raise `ModelError` where target and drafts do not fit in what the run's devices have free."""
    device = plan.spec.device or plan.device
    check_fits(memory_plans(plan, target, prompts), device, free_by_device(device, free))


def weight_limits(plan: Plan, target: str, prompts: Prompts, free: Free = free_bytes) -> dict[int, int] | None:
    """Bytes of the target's weights by GPU, where it is spread: its drafts find room on the first. Else None."""
    if plan.spec.device != SPREAD:
        return None
    return max_memory(memory_plans(plan, target, prompts), free_by_device(SPREAD, free))


def _plan(
    found: Checkpoint,
    dtype: torch.dtype,
    positions: int,
    device: str,
    engine: str | None,
    lanes: Sequence[Lane],
    is_target: bool,
) -> MemoryPlan:
    config = read_config(found)
    graphs = None
    if device.startswith("cuda") and engine != "eager" and why_not_lean(config) is None:
        kinds = kinds_of_target(config, lanes) if is_target else kinds_of_draft(found, config, lanes)
        graphs = GraphNeeds(kinds, compiled=why_not_compiled(torch.device(device)) is None)
    return plan_memory(found, config, dtype, positions, graphs, on_host=device == "cpu")


def kinds_of_target(config: Any, lanes: Sequence[Lane]) -> tuple[Kinds, ...]:
    """An upper bound of the passes that the decoders ask of a target, as kinds of graphs."""
    widths = [(Widths.of(lane.decoder.options), lane.draft is None) for lane in lanes]
    chain = max((width.chain for width, _ in widths), default=1)
    masked = max((max(width.tree, width.search if alone else 0) for width, alone in widths), default=0)
    searched = any(alone and width.search for width, alone in widths)
    return target_kinds(config.num_hidden_layers, chain, masked, searched)


def kinds_of_draft(found: Checkpoint, config: Any, lanes: Sequence[Lane]) -> tuple[Kinds, ...]:
    """Likewise of a draft, by each way that the decoders read it; by both ways where none is known."""
    exits, layers = len(config_exits(found.name, config)), config.num_hidden_layers
    if not lanes:
        return (*draft_kinds(layers, 0, 0), *(draft_kinds(layers, exits, 0) if exits else ()))
    read = [
        draft_kinds(
            layers, exits if lane.decoder.kind.draft_kind == "nested" else 0, Widths.of(lane.decoder.options).search
        )
        for lane in lanes
    ]
    return most_kinds(read)
