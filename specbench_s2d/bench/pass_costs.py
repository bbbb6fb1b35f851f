"""Pass costs of several targets with one draft, one target in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from specbench_s2d.bench.memory import plans_together
from specbench_s2d.measure.bandwidth import FIRST_ROUNDS, read_rate_of
from specbench_s2d.measure.pass_costs import PassCosts, pass_costs
from specbench_s2d.models import check_pair, load_model
from specbench_s2d.models.devices import (
    SPREAD,
    check_device,
    default_device,
    find_dtype,
    first_device,
    free_by_device,
    release_memory,
)
from specbench_s2d.models.memory import MemoryPlan
from specbench_s2d.models.placement import check_fits, max_memory
from specbench_s2d.models.resolve import ResolvedModel, ResolvedModels


@dataclass(frozen=True)
class Place:
    """Where and how models run; None: the device's own defaults."""

    device: str | None = None
    dtype: str | None = None
    engine: str | None = None


@dataclass(frozen=True)
class PassRun:
    """What was timed of `target` (its own name; `given` as asked for) and `draft`, on a device that reads what an AR
    step reads at `read_rate_bytes_per_s`."""

    given: str
    target: str
    draft: str
    costs: PassCosts
    read_rate_bytes_per_s: float


def check_targets(targets: Sequence[str], draft: str, place: Place, positions: int) -> ResolvedModels:
    """The models, resolved; raises, before anything is loaded, where a target and the draft do not go or do not fit
    together."""
    device, models = place.device or default_device(), ResolvedModels()
    check_device(device)
    for name in targets:
        check_pair(models[name], models[draft])
        check_fits(_plans(models[name], models[draft], place, device, positions), device, free_by_device(device))
    return models


def _plans(target: ResolvedModel, draft: ResolvedModel, place: Place, device: str, positions: int) -> list[MemoryPlan]:
    together = (target,) if target is draft else (target, draft)
    return plans_together(together, find_dtype(place.dtype, device), positions, device, place.engine)


def pass_runs(
    models: ResolvedModels,
    targets: Sequence[str],
    draft: str,
    place: Place,
    widths: Sequence[int],
    context: int,
    say: Callable[[str], None],
) -> Iterator[PassRun]:
    """Time the passes of each target and of the draft at `context` cached positions."""
    device = place.device or default_device()
    free = free_by_device(device)
    small = load_model(models[draft], device=first_device(device), dtype=place.dtype, engine=place.engine)
    for name in targets:
        say(f"{name}: loading, then timing its passes and those of {draft}")
        plans = _plans(models[name], models[draft], place, device, context + max(widths))
        limits = max_memory(plans, free) if device == SPREAD else None
        model = load_model(models[name], device=device, dtype=place.dtype, engine=place.engine, limits=limits)
        costs = pass_costs(model, small, widths, context)
        rate = read_rate_of(model, costs.ar_read_bytes)
        rate.measure(FIRST_ROUNDS)
        yield PassRun(name, model.name, small.name, costs, rate.bytes_per_s)
        del model
        release_memory()
