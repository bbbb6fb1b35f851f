"""Which device holds what of a target and its drafts; refused, naming the one that is short, before anything is loaded.

Everything is on the one device of a run, but under `--device auto`: there the target's layers are spread over all GPUs,
each of which gets as many, as far as it has room, and drafts are on the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specbench_s2d.errors import ModelError
from specbench_s2d.models.devices import SPREAD, device_index
from specbench_s2d.models.memory import MemoryPlan, gb


@dataclass(frozen=True)
class Share:
    """A GPU's part of a target that is spread, in bytes.

    `drafts_bytes`: held by drafts, their caches and graphs. `working_bytes`: of the target's widest pass, which every
    GPU works in in its turn. `room_bytes`: weights that go there with their share of the cache, at most.
    `level_bytes`: the weights it is to take.
    """

    device: str
    free_bytes: int
    drafts_bytes: int
    working_bytes: int
    room_bytes: int
    level_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.device} has {gb(self.free_bytes)} free (drafts {gb(self.drafts_bytes)}, passes "
            f"{gb(self.working_bytes)}, leaving {gb(self.room_bytes)} for weights with their cache)"
        )


def check_fits(plans: Sequence[MemoryPlan], device: str, free: Mapping[str, int]) -> None:
    """Raise `ModelError` with the figures where models that are loaded together do not fit.

    `plans`: the target's first, then its drafts'. `free`: bytes by device, of `auto` all GPUs in their order.
    """
    if device == SPREAD:
        _check_spread(plans, free)
        return
    needed, there = sum(plan.total_bytes for plan in plans), free[device]
    if needed > there:
        raise ModelError(
            f"--device {device}: {gb(there)} GB are free, and {gb(needed)} GB are needed: {_listed(plans)}. "
            f"{_advice(plans)} a smaller model, or spread a checkpoint over several GPUs with --device auto."
        )


def shares(plans: Sequence[MemoryPlan], free: Mapping[str, int]) -> list[Share]:
    """How the first of `plans` is spread over the devices of `free`, the others on the first of them.

    Weights are levelled: every GPU takes as many bytes, but one with less room takes that. A layer is never split, so a
    GPU's room counts one layer less than there is.
    """
    target, *drafts = plans
    held = [sum(plan.total_bytes for plan in drafts), *[0] * (len(free) - 1)]
    rest = [max(0, have - own - target.working_bytes) for have, own in zip(free.values(), held, strict=True)]
    rooms = [room * target.weights_bytes // (target.weights_bytes + target.cache_bytes) for room in rest]
    level = _level([max(0, room - target.block_bytes) for room in rooms], target.weights_bytes)
    parts = zip(free.items(), held, rooms, strict=True)
    return [
        Share(device, have, own, target.working_bytes, room, min(level, max(0, room - target.block_bytes)))
        for (device, have), own, room in parts
    ]


def max_memory(plans: Sequence[MemoryPlan], free: Mapping[str, int]) -> dict[int, int]:
    """transformers' `max_memory`, bytes of weights by GPU, under which its sequential device map does as `shares` says.

    A layer more than the level, for a GPU is left when the next layer would pass it; on the first one another, which
    transformers keeps free there for layers that wait elsewhere (none do).
    """
    block = plans[0].block_bytes
    limits = {
        device_index(share.device): min(share.level_bytes + block, share.room_bytes) for share in shares(plans, free)
    }
    first = next(iter(limits))
    return {**limits, first: limits[first] + block}


def _check_spread(plans: Sequence[MemoryPlan], free: Mapping[str, int]) -> None:
    """Raise `ModelError` naming the GPU that cannot hold the drafts, or those with less room than an equal share."""
    target, spread = plans[0], shares(plans, free)
    crowded = [share for share in spread if share.drafts_bytes > share.free_bytes]
    if not crowded and sum(share.level_bytes for share in spread) >= target.weights_bytes:
        return
    equal = target.weights_bytes // len(spread)
    short = crowded or [share for share in spread if share.room_bytes - target.block_bytes < equal]
    raise ModelError(
        f"--device {SPREAD}: {target.name} has {gb(target.weights_bytes)} GB of weights, an equal share of {gb(equal)} "
        f"on each of {len(spread)} GPUs, too little room on {'; '.join(map(str, short))}. Needed: {_listed(plans)}. "
        f"{_advice(plans)} a smaller model, or more GPUs."
    )


def _level(rooms: Sequence[int], wanted: int) -> int:
    """The lowest level at which vessels of these sizes hold `wanted` together; the largest size if they cannot."""
    left, lower = wanted, 0
    for place, room in enumerate(sorted(rooms)):
        vessels = len(rooms) - place
        if (room - lower) * vessels >= left:
            return lower - (-left // vessels)
        left -= (room - lower) * vessels
        lower = room
    return lower


def _listed(plans: Sequence[MemoryPlan]) -> str:
    return "; ".join(map(str, plans))


def _advice(plans: Sequence[MemoryPlan]) -> str:
    graphs = " --engine eager, which takes no graphs," if any(plan.graphs for plan in plans) else ""
    return f"Lower --max-new-tokens, give --dtype bfloat16,{graphs}"
