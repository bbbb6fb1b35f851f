"""Stand-ins for what the package asks of `torch.cuda`."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tests.rehearsal.capture import Recording
from tests.rehearsal.rules import RefusedError
from tests.rehearsal.tensors import DeviceMode

MEMORY_BYTES, USED_BYTES = 80 * 10**9, 10**9


class Cuda:
    """Streams, events, graphs, memory and properties of `devices` rehearsed devices."""

    def __init__(self, mode: DeviceMode, devices: int) -> None:
        self._mode, self._devices = mode, devices
        self._stream: Any = None
        cuda = self

        class Stream:
            """All work is done in the order it was asked for, whatever the stream."""

            def __init__(self, device: Any = None, **named: Any) -> None:
                self.device = cuda._device(device)
                self.cuda_stream = id(self)

            def wait_stream(self, other: Stream) -> None:
                return None

            def wait_event(self, event: Any) -> None:
                return None

            def synchronize(self) -> None:
                mode.synchronize("stream.synchronize")

        class Event:
            """A moment on the host's clock; its time is known once it was waited for."""

            def __init__(self, enable_timing: bool = False, **named: Any) -> None:
                self._timed, self._at, self._passed = enable_timing, None, False

            def record(self, stream: Any = None) -> None:
                self._at = perf_counter()
                cuda.events.append(self)

            def synchronize(self) -> None:
                if not self._passed:
                    mode.synchronize("event.synchronize")
                    cuda.pass_events()

            def query(self) -> bool:
                return self._passed

            def elapsed_time(self, other: Event) -> float:
                if not (self._timed and other._timed and self._at is not None and other._at is not None):
                    raise RefusedError("elapsed_time: both events must be recorded, with timing")
                if not (self._passed and other._passed):
                    raise RefusedError("elapsed_time: both events must be completed first")
                return 1000 * (other._at - self._at)

        class CUDAGraph:
            """A recorded capture."""

            def __init__(self, keep_graph: bool = False) -> None:
                self.recording: Recording | None = None

            def replay(self) -> None:
                if self.recording is None:
                    raise RefusedError("replay: nothing was captured")
                mode.replay(self.recording)

            def reset(self) -> None:
                if self.recording is not None:
                    mode.graph_forgotten(self.recording)
                self.recording = None

            def pool(self) -> Any:
                return (0, 0)

        self.Stream, self.Event, self.CUDAGraph = Stream, Event, CUDAGraph
        self.events: list[Any] = []
        self._graphs_of: dict[Any, weakref.WeakSet[Any]] = {}  # by the handle of their pool
        self._handles = itertools.count(1)
        self._default = Stream(0)

    def pass_events(self) -> None:
        for event in self.events:
            event._passed = True
        self.events.clear()

    def stand_ins(self) -> dict[str, Any]:
        """By the name in `torch.cuda`."""
        return {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: self._devices,
            "current_device": lambda: self._mode.current,
            "set_device": self._set_device,
            "device": self._device_context,
            "synchronize": self._synchronize,
            "empty_cache": lambda: None,
            "is_current_stream_capturing": lambda: self._mode.recording is not None,
            "is_bf16_supported": lambda *_, **__: True,
            "memory_reserved": lambda device=None: USED_BYTES,
            "memory_allocated": lambda device=None: USED_BYTES,
            "max_memory_allocated": lambda device=None: USED_BYTES,
            "reset_peak_memory_stats": lambda device=None: None,
            "mem_get_info": lambda device=None: (MEMORY_BYTES - USED_BYTES, MEMORY_BYTES),
            "get_device_name": lambda device=None: "rehearsed device",
            "get_device_capability": lambda device=None: (9, 0),
            "get_device_properties": self._properties,
            "Stream": self.Stream,
            "Event": self.Event,
            "CUDAGraph": self.CUDAGraph,
            "graph": self._graph,
            "graph_pool_handle": self._new_pool,
            "stream": self._on_stream,
            "current_stream": lambda device=None: self._stream or self._default,
            "default_stream": lambda device=None: self._default,
            "set_sync_debug_mode": self._set_sync_debug_mode,
            "reset_accumulated_memory_stats": lambda device=None: None,
            "manual_seed_all": lambda seed: None,
            "manual_seed": lambda seed: None,
            "get_rng_state": lambda device=None: torch.get_rng_state(),
        }

    def _device(self, device: Any) -> torch.device:
        found = torch.device("cuda" if device is None else device if not isinstance(device, int) else f"cuda:{device}")
        index = self._mode.current if found.index is None else found.index
        if index >= self._devices:
            raise RefusedError(f"invalid device ordinal {index}: there are {self._devices}")
        return torch.device("cuda", index)

    def _set_device(self, device: Any) -> None:
        self._mode.current = self._device(device).index

    @contextmanager
    def _device_context(self, device: Any) -> Iterator[None]:
        before = self._mode.current
        self._set_device(device)
        try:
            yield
        finally:
            self._mode.current = before

    def _set_sync_debug_mode(self, mode: str | int) -> None:
        self._mode.waits_refused = mode in ("error", 2)

    def _synchronize(self, device: Any = None) -> None:
        self._mode.synchronize("synchronize")
        self.pass_events()

    @contextmanager
    def _on_stream(self, stream: Any) -> Iterator[None]:
        before, self._stream = self._stream, stream
        try:
            yield
        finally:
            self._stream = before

    def _new_pool(self) -> tuple[int, int]:
        self._mode.counts.pools += 1
        return 0, next(self._handles)

    @contextmanager
    def _graph(
        self, graph: Any, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        self._synchronize()  # torch does so before a capture
        if not self._graphs_of.get(pool, (graph,)):
            raise RefusedError("use_count > 0 INTERNAL ASSERT FAILED: all graphs of this pool were released")
        self._mode.capture_began()
        try:
            yield
        finally:
            graph.recording = self._mode.capture_ended()
            if pool is not None:
                self._graphs_of.setdefault(pool, weakref.WeakSet()).add(graph)
            weakref.finalize(graph, self._mode.graph_forgotten, graph.recording)

    def _properties(self, device: Any = None) -> SimpleNamespace:
        index = self._device(device).index
        return SimpleNamespace(
            name="rehearsed device", total_memory=MEMORY_BYTES, multi_processor_count=132, major=9, minor=0,
            uuid=f"00000000-0000-0000-0000-00000000000{index}", warp_size=32, L2_cache_size=50 * 2**20,
        )  # fmt: skip


class DeviceGenerator(torch.Generator):
    """`torch.Generator`, of the CPU whatever device is asked for: the same draws as there."""

    def __new__(cls, device: Any = "cpu") -> DeviceGenerator:
        return super().__new__(cls, device="cpu")


class NumbersAreDevices(TorchFunctionMode):
    """A lone number in place of a device is `cuda:N`, as on a CUDA build."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(kwargs.get("device"), int):
            kwargs = {**kwargs, "device": _DEVICE("cuda", kwargs["device"])}
        if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], int):
            args = (args[0], _DEVICE("cuda", args[1]), *args[2:])
        return func(*args, **kwargs)


class _DeviceMeta(type):
    """A lone number is a device of the accelerator, which a CPU build does not have."""

    def __call__(cls, device: Any, index: int | None = None) -> torch.device:
        if isinstance(device, int):
            return _DEVICE("cuda", device)
        return _DEVICE(device) if index is None else _DEVICE(device, index)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, _DEVICE)


class DeviceName(metaclass=_DeviceMeta):
    """`torch.device`, for which number N is `cuda:N`."""


_DEVICE = torch.device
