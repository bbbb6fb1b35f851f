"""Captures that need no GPU: tensor operations are recorded and repeated one by one, as in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from specbench_s2d.models.engines.capture import Capture, Work
from specbench_s2d.models.engines.choose import MakeEngine
from specbench_s2d.models.engines.cuda_graphs import CudaGraphEngine


class CountingBackend:
    """A backend of torch.compile that compiles nothing and counts what it is given."""

    def __init__(self) -> None:
        self.compiled = 0

    def __call__(self, module: Any, inputs: Any) -> Any:
        self.compiled += 1
        return module


class _Recorder(TorchDispatchMode):
    """Every operation with the tensors it took and gave; what the host reads of a tensor is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "captured work waits for the device"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out


class RecordingCapture:
    """What the host knew when work was recorded is all that its repetition knows; buffers are those of that moment."""

    def __init__(self) -> None:
        self.recorded, self.repeated = 0, 0

    def capture(self, work: Work) -> Work:
        work()
        with _Recorder() as recorder:
            work()
        self.recorded += 1

        def repeat() -> None:
            self.repeated += 1
            _repeat(recorder.calls)

        return repeat


def _repeat(calls: list[tuple[Any, Any, Any, Any]]) -> None:
    anew: dict[int, Tensor] = {}

    def current(value: Any) -> Any:
        return anew.get(id(value), value) if isinstance(value, Tensor) else value

    for func, args, kwargs, out in calls:
        given = func(*tree_map(current, args), **tree_map(current, kwargs))
        for old, new in zip(tree_leaves(out), tree_leaves(given), strict=True):
            anew[id(old)] = new


class RerunningCapture:
    """Runs the work anew each time: for compiled work, whose operations cannot be recorded one by one, and for much."""

    def __init__(self) -> None:
        self.recorded, self.repeated = 0, 0

    def capture(self, work: Work) -> Work:
        work()
        self.recorded += 1

        def repeat() -> None:
            self.repeated += 1
            with torch.inference_mode(False), torch.no_grad():  # as when it was captured
                work()

        return repeat


def few_buckets(capacity: int) -> tuple[int, ...]:
    """Two length buckets, so that few graphs are recorded."""
    return (96, capacity)


def graph_engine(
    capture: Capture | None = None, lengths: Callable[[int], tuple[int, ...]] | None = None, **options: Any
) -> MakeEngine:
    """The CUDA graph engine over a capture, for `LlamaModel` and `load_model`; `options` as of `CudaGraphEngine`."""
    one = capture or RecordingCapture()
    return partial(CudaGraphEngine, capture=lambda: one, lengths=lengths, **options)
