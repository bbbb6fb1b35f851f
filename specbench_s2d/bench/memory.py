"""What a target of the run and its drafts take of their devices; refused, with figures, before any is loaded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

import torch

from specbench_s2d.bench.plan import Lane, Plan
from specbench_s2d.decoding.hooks import ASSUMED_PASSES
from specbench_s2d.decoding.loop import PROPOSED
from specbench_s2d.models.base import PassKind, without_states
from specbench_s2d.models.devices import DTYPES, SPREAD, first_device
from specbench_s2d.models.engines.compiled import why_not_compiled
from specbench_s2d.models.exit_view import reader_passes
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.forward_check import is_checked
from specbench_s2d.models.graph_memory import GraphNeeds
from specbench_s2d.models.memory import MemoryPlan, plan_memory
from specbench_s2d.models.nested import stage_passes
from specbench_s2d.models.resolve import ResolvedModel


def memory_plans(plan: Plan, target: str, positions: int, without: Collection[str] = ()) -> list[MemoryPlan]:
    """The target's plan and each draft's, for sequences of `positions` with a proposal beyond them.

    `without`: labels of decoders that will not run.
    """
    dtype, longest = DTYPES[plan.spec.dtype or "float32"], positions + PROPOSED
    given = plan.target_device
    lanes = [lane for lane in plan.lanes[target] if lane.label not in without]
    engine, verify = plan.spec.engine, plan.spec.verify_forward
    plans = [_plan(plan.models[target], dtype, longest, given, engine, lambda model: _target_passes(lanes), verify)]
    for name in plan.drafts(target):
        if name != target:
            used = [lane for lane in lanes if lane.draft == name]
            passes = partial(_draft_passes, used)
            plans.append(_plan(plan.models[name], dtype, longest, plan.device, engine, passes, verify))
    return plans


def index_plans(plan: Plan, target: str, positions: int, without: Collection[str] = ()) -> list[MemoryPlan]:
    """What drafters without a model keep in the host's memory, for sequences of `positions`, by label; `without` as
    above."""
    lanes = [lane for lane in plan.lanes[target] if lane.label not in without]
    sizes = {lane.label: lane.decoder.kind.host_bytes(lane.decoder.options, positions) for lane in lanes}
    return [MemoryPlan(f"{label} (index)", 0, 0, 0, size) for label, size in sizes.items() if size]


def plans_together(
    models: Iterable[ResolvedModel], dtype: torch.dtype, positions: int, device: str, engine: str | None
) -> list[MemoryPlan]:
    """The plans of a target and its draft whose single passes are timed: a target that verifies chains, a draft that is
    read at its last layer or at its exits."""
    target, *drafts = models
    plans = [_plan(target, dtype, positions, device, engine, lambda model: _target_passes(()))]
    alone = partial(_draft_passes, ())
    return plans + [_plan(one, dtype, positions, first_device(device), engine, alone) for one in drafts]


def _plan(
    model: ResolvedModel,
    dtype: torch.dtype,
    positions: int,
    device: str,
    engine: str | None,
    passes: Callable[[HasExits], list[PassKind]],
    verify: bool = False,
) -> MemoryPlan:
    """The plan of one model; `passes`: what its decoders can ask of it; `verify`: the run's `--verify-forward`."""
    graphs, asked = None, without_states(passes(model), model.depth)
    if device.startswith("cuda") and engine != "eager" and model.has_layer_ranges:
        compiled = why_not_compiled(torch.device(device)) is None
        graphs = GraphNeeds.of(asked, model.depth, compiled)
    checked = device != SPREAD and is_checked(model, verify or None)
    heads = [len(small) for small in {kind.vocabulary for kind in asked} if small]
    return plan_memory(model, dtype, positions, graphs, device == "cpu", heads, checked)


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
