"""Which kernels torch may take for fused attention while a run lasts: none that is planned anew for every length.

On Hopper and Blackwell torch prefers cuDNN's (from 2.11 on, whose cuDNN is new enough), which builds a plan on the host
for each length of prompt and cache that it meets, tens of milliseconds each as others measured. That time would fall on
whichever decoder meets a length first; through transformers' own forward, where every token makes a new length, on each
step. Flash, memory-efficient and plain attention need no plan, so no length has to be warmed up. Not measured here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.backends import cuda


@contextmanager
def planless_attention() -> Iterator[None]:
    """cuDNN's attention is off inside the block, for the whole process; afterwards it is as it was."""
    was_on = cuda.cudnn_sdp_enabled()
    cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        cuda.enable_cudnn_sdp(was_on)


def sdpa_facts(device: str) -> dict[str, Any]:
    """The kernels that torch may choose from on this device, now, for the manifest."""
    switches = {"flash": cuda.flash_sdp_enabled, "math": cuda.math_sdp_enabled}
    if device.startswith("cuda"):
        switches |= {"efficient": cuda.mem_efficient_sdp_enabled, "cudnn": cuda.cudnn_sdp_enabled}
        return {"sdpa_backends": _on(switches)}
    return {"sdpa_backends": _on(switches), "sdpa_backends_reason": f"{device}: torch has no others there"}


def _on(switches: dict[str, Any]) -> list[str]:
    return [name for name, is_on in switches.items() if is_on()]
