"""Devices and dtypes by name, and the memory that is free on them."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch

from specbench_s2d.cgroup import available_bytes
from specbench_s2d.errors import UserError
from specbench_s2d.spelling import DTYPES as OTHER_NAMES
from specbench_s2d.spelling import meant, near_names

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HOST = "cpu"
SPREAD = "auto"
"""The device name of a model spread over all visible GPUs."""
_BFLOAT16_SINCE = (8, 0)  # compute capability


def default_device() -> str:
    """`cuda` if there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class DtypeChoice(NamedTuple):
    """The dtype that a device gets where none is asked for, and why."""

    name: str
    reason: str


def dtype_by_default(*devices: str) -> DtypeChoice:
    """`float32` on a CPU; on GPUs `bfloat16`, or `float16` where one of them is older than Ampere, the first generation
    that multiplies bfloat16."""
    if devices == (HOST,):
        return DtypeChoice("float32", "the default on a CPU")
    for one in (one for device in devices for one in all_devices(device)) if _gpus() else ():
        capability = torch.cuda.get_device_capability(one)
        if capability < _BFLOAT16_SINCE:
            which = f"{torch.cuda.get_device_name(one)}, of compute capability {capability[0]}.{capability[1]}"
            return DtypeChoice("float16", f"the default on {which}: bfloat16 takes 8.0 (Ampere) or newer")
    return DtypeChoice("bfloat16", "the default on a GPU of compute capability 8.0 (Ampere) or newer")


def default_dtype(device: str) -> str:
    """The name of `dtype_by_default`."""
    return dtype_by_default(device).name


def find_dtype(name: str | torch.dtype | None, device: str) -> torch.dtype:
    """The dtype by its name or one of its other names (`bf16`), or the device's default; raises `UserError` for an
    unknown one."""
    asked = str(name).removeprefix("torch.") if name else default_dtype(device)
    if (chosen := meant(asked, DTYPES, OTHER_NAMES)) is None:
        raise UserError(f"--dtype {asked}: give one of {', '.join(DTYPES)}.{near_names(asked, DTYPES, OTHER_NAMES)}")
    return DTYPES[chosen]


def first_device(device: str) -> str:
    """The device itself, or for `auto` the first GPU, which holds the drafts and is measured."""
    return "cuda:0" if device == SPREAD else device


def all_devices(device: str) -> list[str]:
    """The device itself, or for `auto` every visible GPU."""
    return [f"cuda:{index}" for index in range(_gpus())] if device == SPREAD else [device]


def check_device_name(device: str) -> None:
    """Raise `UserError` for what names no device of any machine."""
    if not re.fullmatch(rf"cpu|{SPREAD}|cuda(:\d+)?", device):
        number = re.search(r"\d+", device)
        known = [HOST, SPREAD, f"cuda:{number[0]}" if number else "cuda"]
        near = near_names(device, known, {"gpu": known[-1], f"gpu{number[0]}" if number else "nvidia": known[-1]})
        raise UserError(f"--device {device}: not a device; give cpu, cuda or cuda:N, or {SPREAD} for all GPUs.{near}")


def check_device(device: str) -> torch.device:
    """The torch device by its name, for `auto` the first GPU; raises `UserError` where it does not exist."""
    check_device_name(device)
    place = torch.device(first_device(device))
    if place.type == "cuda" and (place.index or 0) >= _gpus():
        raise UserError(f"--device {device}: torch sees {_gpus()} CUDA devices here; use --device cpu.")
    return place


def release_memory() -> None:
    """Collect what nothing refers to any more, in cycles too, and give GPUs back what torch's allocator holds unused:
    before a model is loaded after another one, and after an error for want of memory."""
    gc.collect()
    if torch.cuda.is_initialized():
        with suppress(RuntimeError):  # a GPU that an earlier fault has made unusable
            torch.cuda.empty_cache()


Free = Callable[[str], int]
"""A device's free bytes."""


def free_bytes(device: str) -> int:
    """Bytes that can be allocated on one device now; on a GPU, including what torch's allocator holds unused."""
    if device == "cpu":
        return available_bytes()
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return driver_free_bytes(device) + unused


def share_of_host(workers: int) -> Free:
    """Free bytes as each of so many workers of one machine counts them, which share the host's memory evenly."""
    return lambda device: free_bytes(device) // (workers if device == HOST else 1)


def driver_free_bytes(device: str) -> int:
    """Bytes that a GPU's driver reports free, which excludes what torch's allocator holds unused."""
    return int(torch.cuda.mem_get_info(torch.device(device))[0])


def free_bytes_before_capture(device: str) -> int:
    """As `driver_free_bytes`, after torch's allocator has released unused memory, as it does before capturing a
    graph."""
    torch.cuda.empty_cache()
    return driver_free_bytes(device)


def free_by_device(device: str, free: Free = free_bytes) -> dict[str, int]:
    """Free bytes of the device, or for `auto` of every visible GPU in order."""
    return {one: free(one) for one in all_devices(device)}


def device_index(device: str) -> int:
    """N of `cuda:N`; 0 for `cuda`."""
    return torch.device(device).index or 0


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
