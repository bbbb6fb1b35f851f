"""Numbers from the host to a model's device, without waiting for what the device has yet to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(numbers: Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Whole numbers as a tensor (int64) on `device`.

    To a GPU they go by way of pinned memory, in the stream's order: designed not to wait, not measured on one.
    `torch.tensor(…, device=…)` would wait there until all work asked for before is done.
    """
    return send_tensor(torch.tensor(numbers, dtype=torch.long), device)


def send_tensor(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on `device`, as `to_device` does it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
