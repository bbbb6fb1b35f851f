"""Capturing work of fixed shape once, to repeat it as a single call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

Work = Callable[[], None]
"""Work over buffers at fixed addresses; it returns nothing, waits for nothing and decides nothing on the host."""


class Capture(Protocol):
    """Captures work."""

    def capture(self, work: Work) -> Work:
        """Run `work` once, so that it is compiled and loaded, capture it, and return a call that repeats it."""
        ...


class CudaCapture:
    """CUDA graphs of one device. All graphs of one instance share a stream and a memory pool, so they must run in one
    stream.

    Memory that a graph allocates must not be read after it; results are written to buffers allocated before. torch
    refuses captures into a pool whose graphs have all been released, so a graph that is never repeated keeps the pool
    in use: graphs captured after others were released take over their memory. After a capture that failed the next one
    begins a new pool.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool: tuple[Any, torch.cuda.CUDAGraph] | None = None  # its handle, and the graph that keeps it in use

    def capture(self, work: Work) -> Work:
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                work()
            current.wait_stream(self._stream)
            try:
                if self._pool is None:
                    handle, number = torch.cuda.graph_pool_handle(), torch.zeros(1, device=self._device)
                    self._pool = handle, self._graph(number.zero_, handle)
                return self._graph(work, self._pool[0]).replay
            except BaseException:
                self._pool = None
                raise

    def _graph(self, work: Callable[[], object], pool: Any) -> torch.cuda.CUDAGraph:
        captured = torch.cuda.CUDAGraph()
        # thread_local: other threads may call the driver meanwhile, for memory or clock frequencies.
        with torch.cuda.graph(captured, pool, self._stream, capture_error_mode="thread_local"):
            work()
        return captured
