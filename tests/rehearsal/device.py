"""The rehearsed device as one context manager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import pytest
import torch

from tests.rehearsal.counts import Counts
from tests.rehearsal.cuda import Cuda, DeviceGenerator, DeviceName, NumbersAreDevices
from tests.rehearsal.guard import load_guard
from tests.rehearsal.tensors import DeviceMode


@contextmanager
def rehearsed(devices: int = 1) -> Iterator[Counts]:
    """CUDA devices inside; yields the counts of what the host asks of them."""
    load_guard()
    _lend_cpu_kernels()
    mode = DeviceMode()
    lifted_only_on_cpu = torch._C._only_lift_cpu_tensors()
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_swap_module_params_on_conversion(True)  # a module's parameters become the wrappers
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, stand_in in Cuda(mode, devices).stand_ins().items():
                patch.setattr(torch.cuda, name, stand_in)
            patch.setattr(torch, "Generator", DeviceGenerator)
            patch.setattr(torch, "device", DeviceName)
            patch.setattr(torch.inference_mode, "__enter__", _no_grad_enters)
            patch.setattr(torch.inference_mode, "__exit__", _no_grad_leaves)
            patch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # a mode is of one thread
            with NumbersAreDevices() if devices > 1 else nullcontext(), mode:
                yield mode.counts
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted_only_on_cpu)
        torch.__future__.set_swap_module_params_on_conversion(swapped)


@cache
def _lend_cpu_kernels() -> torch.library.Library:
    """What CUDA has and the CPU has not: products of half-precision numbers that give float32."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("mm.dtype", lambda a, b, dtype: a.to(dtype) @ b.to(dtype), "CPU")
    return library


def _no_grad_enters(self: Any) -> None:
    """Inference tensors of a wrapper have no version to count, so that inference mode is no more than no_grad here."""
    self.before = torch.is_grad_enabled()
    if self.mode:
        torch.set_grad_enabled(False)


def _no_grad_leaves(self: Any, *raised: Any) -> None:
    torch.set_grad_enabled(self.before)
