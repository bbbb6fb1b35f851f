"""Devices and number formats by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch

from specbench_s2d.cgroup import available_bytes
from specbench_s2d.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SPREAD = "auto"
"""The device of a model that is spread over all visible GPUs."""


def default_device() -> str:
    """`cuda` if there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> str:
    """`float32` on a CPU, `bfloat16` elsewhere."""
    return "float32" if device == "cpu" else "bfloat16"


def find_dtype(name: str | None, device: str) -> torch.dtype:
    """The dtype by its name, or the device's default; raises `UserError` for one that there is not."""
    chosen = name or default_dtype(first_device(device))
    if chosen not in DTYPES:
        raise UserError(f"--dtype {chosen}: give one of {', '.join(DTYPES)}.")
    return DTYPES[chosen]


def first_device(device: str) -> str:
    """Where clock, probes and drafts of a run are: the device itself, or of `auto` the first GPU."""
    return "cuda:0" if device == SPREAD else device


def all_devices(device: str) -> list[str]:
    """The device itself, or of `auto` every visible GPU."""
    return [f"cuda:{index}" for index in range(_gpus())] if device == SPREAD else [device]


def check_device(device: str) -> torch.device:
    """The torch device by its name, of `auto` the first; raises `UserError` when it is not there."""
    if not re.fullmatch(rf"cpu|{SPREAD}|cuda(:\d+)?", device):
        raise UserError(f"--device {device}: not a device; give cpu, cuda or cuda:N, or {SPREAD} for all GPUs.")
    place = torch.device(first_device(device))
    if place.type == "cuda" and (place.index or 0) >= _gpus():
        raise UserError(f"--device {device}: torch sees {_gpus()} CUDA devices here; use --device cpu.")
    return place


Free = Callable[[str], int]
"""A device's free bytes."""


def free_bytes(device: str) -> int:
    """Bytes that can be allocated on one device now: of a GPU, what is free and what torch holds unused."""
    if device == "cpu":
        return available_bytes()
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return driver_free_bytes(device) + unused


def driver_free_bytes(device: str) -> int:
    """Bytes of a GPU that its driver has free; what torch holds unused is not."""
    return int(torch.cuda.mem_get_info(torch.device(device))[0])


def settled_free_bytes(device: str) -> int:
    """As `driver_free_bytes`, once torch has given back what it holds unused, as it does before it records a graph."""
    torch.cuda.empty_cache()
    return driver_free_bytes(device)


def free_by_device(device: str, free: Free = free_bytes) -> dict[str, int]:
    """What is free on the device, or of `auto` on every visible GPU, in their order."""
    return {one: free(one) for one in all_devices(device)}


def device_index(device: str) -> int:
    """N of `cuda:N`; 0 without one."""
    return torch.device(device).index or 0


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
