"""Numbers and weights from the host to a model's device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(values: Tensor | Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """A tensor of the host on `device`, sent without waiting for work that is queued there; lists of whole numbers
    become int64.

    To a GPU the copy goes through pinned memory, in the stream's order (docs/gpu.md); `torch.tensor(…, device=…)` would
    wait there until the queued work is done.
    """
    tensor = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.long)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def loaded_to(device: torch.device, dtype: torch.dtype, stored: Tensor) -> Tensor:
    """A stored tensor of the host on `device`, in `dtype`.

    To a GPU it crosses in the narrower of both types: what is no wider than wanted is converted there, tensor by
    tensor, and what is wider on the host.
    """
    if device.type != "cpu" and stored.dtype.itemsize <= dtype.itemsize:
        return stored.to(device).to(dtype)
    return stored.to(device=device, dtype=dtype)
