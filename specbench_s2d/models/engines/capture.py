"""Capturing work of fixed shape once, to repeat it as a single call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Work = Callable[[], None]
"""Work over buffers at fixed addresses; it returns nothing, waits for nothing and decides nothing on the host."""


class Capture(Protocol):
    """Captures work."""

    def capture(self, work: Work) -> Work:
        """Run `work` once, so that it is compiled and loaded, capture it, and return a call that repeats it."""
        ...


class CudaCapture:
    """CUDA graphs of one device. All graphs of one instance share a memory pool, so they must run in one stream.

    Memory that a graph allocates must not be read after it; results are written to buffers allocated before.
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
            captured = torch.cuda.CUDAGraph()
            # thread_local: other threads may call the driver meanwhile, for memory or clock frequencies.
            with torch.cuda.graph(captured, self._pool, self._stream, capture_error_mode="thread_local"):
                work()
        return captured.replay
