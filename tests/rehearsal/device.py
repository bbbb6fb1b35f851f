"""The rehearsed device as one context manager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.rehearsal.counts import Counts
from tests.rehearsal.cuda import Cuda, generator_factory
from tests.rehearsal.guard import load_guard
from tests.rehearsal.tensors import DeviceMode


@contextmanager
def rehearsed(devices: int = 1) -> Iterator[Counts]:
    """CUDA devices inside; yields the counts of what the host asks of them."""
    load_guard()
    mode = DeviceMode()
    lifted_only_on_cpu = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, stand_in in Cuda(mode, devices).stand_ins().items():
                patch.setattr(torch.cuda, name, stand_in)
            patch.setattr(torch, "Generator", generator_factory())
            patch.setattr(torch.inference_mode, "__enter__", _no_grad_enters)
            patch.setattr(torch.inference_mode, "__exit__", _no_grad_leaves)
            with mode:
                yield mode.counts
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted_only_on_cpu)


def _no_grad_enters(self: Any) -> None:
    """Inference tensors of a wrapper have no version to count, so that inference mode is no more than no_grad here."""
    self.before = torch.is_grad_enabled()
    if self.mode:
        torch.set_grad_enabled(False)


def _no_grad_leaves(self: Any, *raised: Any) -> None:
    torch.set_grad_enabled(self.before)
