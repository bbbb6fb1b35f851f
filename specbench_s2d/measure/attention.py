"""Which kernels torch may use for attention during a run (SDPA, scaled dot-product attention): all but cuDNN's.

On Hopper and Blackwell GPUs torch from 2.11 on prefers cuDNN's kernel, which builds a plan on the host for each new
length of prompt and cache; others measured tens of milliseconds a plan. That time would be charged to whichever decoder
meets a length first, and in transformers' own forward pass, where every token makes a new length, to each step. Flash,
memory-efficient and plain attention build no plans, so no length has to be warmed up. Not measured on a GPU here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.backends import cuda


@contextmanager
def planless_attention() -> Iterator[None]:
    """Turn cuDNN's attention off inside the block, for the whole process; afterwards it is as it was."""
    was_on = cuda.cudnn_sdp_enabled()
    cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        cuda.enable_cudnn_sdp(was_on)


def sdpa_facts(device: str) -> dict[str, Any]:
    """For the manifest: the attention kernels that torch may choose from on this device now."""
    switches = {"flash": cuda.flash_sdp_enabled, "math": cuda.math_sdp_enabled}
    if device.startswith("cuda"):
        switches |= {"efficient": cuda.mem_efficient_sdp_enabled, "cudnn": cuda.cudnn_sdp_enabled}
        return {"sdpa_backends": _on(switches)}
    return {"sdpa_backends": _on(switches), "sdpa_backends_reason": f"{device}: torch has no others there"}


def _on(switches: dict[str, Any]) -> list[str]:
    return [name for name, is_on in switches.items() if is_on()]
