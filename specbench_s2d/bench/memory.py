"""What a target of the run and its drafts take of their devices; refused, with figures, before any is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from specbench_s2d.bench.plan import Lane, Plan
from specbench_s2d.bench.prompts import Prompts
from specbench_s2d.decoding.decoder import ASSUMED_PASSES
from specbench_s2d.decoding.loop import PROPOSED
from specbench_s2d.models.base import PassKind
from specbench_s2d.models.checkpoint import Checkpoint
from specbench_s2d.models.devices import DTYPES, SPREAD, first_device, free_by_device, free_bytes
from specbench_s2d.models.engines.compiled import why_not_compiled
from specbench_s2d.models.exit_view import reader_passes
from specbench_s2d.models.exits import HasExits, config_exits
from specbench_s2d.models.graph_memory import GraphNeeds
from specbench_s2d.models.llama import why_not_lean
from specbench_s2d.models.load import read_config
from specbench_s2d.models.memory import MemoryPlan, plan_memory
from specbench_s2d.models.nested import stage_passes
from specbench_s2d.models.placement import check_fits, max_memory

Free = Callable[[str], int]
"""A device's free bytes."""


def memory_plans(plan: Plan, target: str, prompts: Prompts) -> list[MemoryPlan]:
    """The target's plan and each draft's, for the longest sequence that the run's questions can lead to."""
    dtype, longest = DTYPES[plan.spec.dtype or "float32"], prompts.longest(plan.questions) + PROPOSED
    given = plan.spec.device or plan.device
    lanes, found = plan.lanes[target], plan.checkpoints
    plans = [_plan(found[target], dtype, longest, given, plan.spec.engine, lambda layers: _target_passes(lanes))]
    for name in plan.drafts(target):
        if name != target:
            used = [lane for lane in lanes if lane.draft == name]
            plans.append(
                _plan(found[name], dtype, longest, plan.device, plan.spec.engine, partial(_draft_passes, used))
            )
    return plans


def plans_together(
    found: Iterable[Checkpoint], dtype: torch.dtype, positions: int, device: str, engine: str | None
) -> list[MemoryPlan]:
    """The plans of a target and its draft whose single passes are timed: a target that verifies chains, a draft that is
    read at its last layer or at its exits."""
    target, *drafts = found
    plans = [_plan(target, dtype, positions, device, engine, lambda layers: _target_passes(()))]
    alone = partial(_draft_passes, ())
    return plans + [_plan(one, dtype, positions, first_device(device), engine, alone) for one in drafts]


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
    passes: Callable[[HasExits], list[PassKind]],
) -> MemoryPlan:
    """The plan of one model; `passes`: what its decoders can ask of it."""
    config, graphs = read_config(found), None
    if device.startswith("cuda") and engine != "eager" and why_not_lean(config) is None:
        layers = _Layers(found.name, config.num_hidden_layers, config_exits(found.name, config))
        compiled = why_not_compiled(torch.device(device)) is None
        graphs = GraphNeeds.of(passes(layers), layers.depth, compiled)
    return plan_memory(found, config, dtype, positions, graphs, on_host=device == "cpu")


@dataclass(frozen=True)
class _Layers:
    """What a decoder must know of a model to tell its passes."""

    name: str
    depth: int
    exits: tuple[int, ...]
    has_layer_ranges: bool = True


def _target_passes(lanes: Sequence[Lane]) -> list[PassKind]:
    """What decoders and the audit's noise can ask of a target."""
    return [kind for lane in lanes for kind in lane.decoder.kind.target_passes(lane.decoder.options)] or ASSUMED_PASSES


def _draft_passes(lanes: Sequence[Lane], draft: HasExits) -> list[PassKind]:
    """Likewise of a draft; of one that is timed alone, the passes of its exits, or of its last layer."""
    asked = [kind for lane in lanes for kind in lane.decoder.kind.draft_passes(lane.decoder.options, draft)]
    if asked:
        return asked
    stages = stage_passes(draft.exits, rows=1) if draft.exits else []
    return [*stages, *(kind for depth in draft.exits or (None,) for kind in reader_passes(depth, draft.depth, 1))]
