"""Numbers from the host to a model's device, without waiting for work that is queued there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(values: Tensor | Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """A tensor of the host on `device`; lists of whole numbers become int64.

    To a GPU the copy goes through pinned memory, in the stream's order (docs/gpu.md); `torch.tensor(…, device=…)` would
    wait there until the queued work is done.
    """
    tensor = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.long)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
