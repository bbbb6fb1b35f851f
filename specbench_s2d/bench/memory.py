"""What a target of the run and its drafts take of the device together; refused, with figures, before any is loaded."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.prompts import Prompts
from specbench_s2d.models.checkpoint import Checkpoint
from specbench_s2d.models.devices import DTYPES, first_device, free_bytes
from specbench_s2d.models.load import read_config
from specbench_s2d.models.memory import MemoryPlan, check_fits, plan_memory


def memory_plans(plan: Plan, target: str, prompts: Prompts) -> list[MemoryPlan]:
    """The target's plan and each draft's, for the longest sequence that the run's questions can lead to."""
    found = [plan.checkpoints[name] for name in dict.fromkeys([target, *plan.drafts(target)])]
    dtype = DTYPES[plan.spec.dtype or "float32"]
    return plans_together(found, dtype, prompts.longest(plan.questions), plan.device, plan.spec.engine)


def plans_together(
    found: Iterable[Checkpoint], dtype: torch.dtype, positions: int, device: str, engine: str | None
) -> list[MemoryPlan]:
    """The plans of models that are loaded at once; on a GPU their passes are graphs unless the engine is eager."""
    graphs = engine != "eager" and first_device(device).startswith("cuda")
    return [plan_memory(one, read_config(one), dtype, positions, graphs) for one in found]


def check_memory(plan: Plan, target: str, prompts: Prompts) -> None:
    """Raise `ModelError` where target and drafts do not fit in what the run's device has free."""
    device = plan.spec.device or plan.device
    check_fits(memory_plans(plan, target, prompts), free_bytes(device), device)
