"""The devices of this machine that `--devices` names: one seat for a worker on each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from specbench_s2d.cgroup import quota_cores
from specbench_s2d.errors import UserError
from specbench_s2d.measure.gpu import TorchCuda, named_slices
from specbench_s2d.measure.machine import usable_cores
from specbench_s2d.models.devices import HOST, all_devices
from specbench_s2d.shards import numbers_in

OF_LAUNCHERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which libraries take a process for one of a distributed job."""


@dataclass(frozen=True)
class Seat:
    """Where one worker runs: the cores that it is bound to, and its GPU by UUID, None on a CPU."""

    cores: Sequence[int]
    gpu: str | None = None

    @property
    def device_part(self) -> str:
        """What a CPU worker's device id has behind the host's: its cores, from the first to the last."""
        ends = sorted({self.cores[0], self.cores[-1]})
        return "" if self.gpu else f":{'-'.join(map(str, ends))}"

    def environment(self, before: Mapping[str, str]) -> dict[str, str]:
        """A process's variables there: its GPU alone is visible, its threads are no more than its cores."""
        kept = {name: value for name, value in before.items() if name not in OF_LAUNCHERS}
        given = before.get("OMP_NUM_THREADS", "")
        threads = min(int(given), len(self.cores)) if given.isdecimal() and int(given) else len(self.cores)
        return {
            **kept,
            "OMP_NUM_THREADS": str(threads),
            **({"CUDA_VISIBLE_DEVICES": self.gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if self.gpu else {}),
        }


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs that torch sees, in its order; where CUDA_VISIBLE_DEVICES names slices of GPUs (MIG), of which
    CUDA shows a process one, all of those."""
    return named_slices(os.environ) or [TorchCuda(device).uuid for device in all_devices("auto")]


def torch_devices(text: str | None, device: str) -> list[str]:
    """The devices, by torch's names, of the workers that `--devices TEXT` puts on `device`; of slices (MIG), of which
    torch sees one, that one."""
    if text is None or device != "cuda":
        return [device]
    gpus = all_devices("auto")
    if text == "all" or text.isdecimal():
        return gpus[: None if text == "all" else int(text)] or [device]
    return [gpus[n] for n in numbers_in(text) if n < len(gpus)] or [device]


def cores_to_use() -> list[int]:
    """Cores that this process may use: of those it is bound to, as many as its quota of time allows."""
    cores, quota = usable_cores(), quota_cores()
    return cores if quota is None else cores[: max(1, int(quota))]


def seats(
    text: str,
    device: str,
    list_gpus: Callable[[], list[str]] = visible_gpus,
    list_cores: Callable[[], list[int]] = cores_to_use,
) -> list[Seat]:
    """The seats that `--devices TEXT` asks for; cores are shared out evenly, and no two seats share one.

    On GPUs: `all`, the numbers of some (`0,1,3`, `2,`), or how many. On a CPU: how many, or cores, each a seat of its
    own. Raises `UserError` for devices that are not there.
    """
    cores = list_cores()
    if device == HOST:
        chosen = check_devices(text, cores, "cores")
        if text.isdecimal():
            return [Seat(share) for share in _shares(cores, len(chosen))]
        return [Seat([core]) for core in chosen]
    gpus = list_gpus()
    numbers = check_devices(text, list(range(len(gpus))), "GPUs")
    if len(numbers) > len(cores):
        raise UserError(f"--devices {text}: {len(numbers)} workers, and this process may use {len(cores)} cores.")
    return [Seat(share, gpus[n]) for n, share in zip(numbers, _shares(cores, len(numbers)), strict=True)]


def check_devices(text: str, there: Sequence[int], kind: str) -> list[int]:
    """The numbers that a `--devices` names of those that are there: all, the first N, or a list."""
    if text == "all":
        chosen = list(there)
    elif text.isdecimal():
        chosen = list(there)[: int(text)] if int(text) <= len(there) else []
    else:
        chosen = numbers_in(text)
        if missing := [n for n in chosen if n not in there]:
            listed = ", ".join(map(str, there)) or "none"
            raise UserError(
                f"--devices {text}: no {kind} {', '.join(map(str, missing))} for this process; there are {listed}."
            )
    if not chosen:
        raise UserError(f"--devices {text}: this process may use {len(there)} {kind}; give 1 to {len(there)}, or all.")
    return chosen


def _shares(cores: Sequence[int], workers: int) -> list[Sequence[int]]:
    return [cores[len(cores) * i // workers : len(cores) * (i + 1) // workers] for i in range(workers)]
