"""Recording work of fixed shape once, to run it ever after as one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Work = Callable[[], None]
"""Work over buffers that stay where they are; it returns nothing, waits for nothing and decides nothing on the host."""


class Capture(Protocol):
    """Records work."""

    def capture(self, work: Work) -> Work:
        """Run `work` once, so that it is compiled and loaded, record it, and return what repeats it."""
        ...


class CudaCapture:
    """CUDA graphs of one device; all that one instance records shares a memory pool, so it must run in one stream.

    Nothing that a graph allocates may be read after it: what is wanted must be written to buffers made before.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, work: Work) -> Work:
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                work()
            current.wait_stream(self._stream)
            recorded = torch.cuda.CUDAGraph()
            # Other threads may ask the driver for memory or clocks meanwhile.
            with torch.cuda.graph(recorded, self._pool, self._stream, capture_error_mode="thread_local"):
                work()
        return recorded.replay
