"""Pass costs of several targets with one draft, one target in memory at a time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from specbench_s2d.bench.memory import plans_together
from specbench_s2d.measure.bandwidth import read_rate
from specbench_s2d.measure.passes import PassCosts, pass_costs
from specbench_s2d.models import check_pair, load_model
from specbench_s2d.models.checkpoint import find_checkpoint
from specbench_s2d.models.devices import default_device, find_dtype, first_device, free_bytes
from specbench_s2d.models.load import read_outline
from specbench_s2d.models.memory import check_fits


@dataclass(frozen=True)
class Place:
    """Where and how models run; None: the device's own defaults."""

    device: str | None = None
    dtype: str | None = None
    engine: str | None = None


@dataclass(frozen=True)
class PassRun:
    """What was timed of `target` (its own name; `given` as asked for) and `draft`, on a device that reads at `rate`."""

    given: str
    target: str
    draft: str
    costs: PassCosts
    read_rate_bytes_per_s: float


def check_targets(targets: Sequence[str], draft: str, place: Place, positions: int) -> None:
    """Raise, before anything is loaded, where a target and the draft do not go or do not fit together."""
    device = place.device or default_device()
    dtype = find_dtype(place.dtype, device)
    for name in targets:
        check_pair(read_outline(name), read_outline(draft))
        found = [find_checkpoint(one) for one in dict.fromkeys((name, draft))]
        check_fits(plans_together(found, dtype, positions, device, place.engine), free_bytes(device), device)


def pass_runs(
    targets: Sequence[str], draft: str, place: Place, widths: Sequence[int], context: int, say: Callable[[str], None]
) -> Iterator[PassRun]:
    """Time the passes of each target and of the draft at `context` cached positions."""
    device = place.device or default_device()
    small = load_model(draft, device=first_device(device), dtype=place.dtype, engine=place.engine)
    rate = read_rate(str(small.device))
    for name in targets:
        say(f"{name}: loading, then timing its passes and those of {draft}")
        model = load_model(name, device=device, dtype=place.dtype, engine=place.engine)
        yield PassRun(name, model.name, small.name, pass_costs(model, small, widths, context), rate)
        del model
        _forget()


def _forget() -> None:
    """Give a target's memory back before the next one loads."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
