"""The engine of a model: the one asked for, else the fastest that the model and the machine allow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.engines.base import Engine
from specbench_s2d.models.engines.cuda_graphs import CudaGraphEngine
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.native import NativeEngine, why_not_native
from specbench_s2d.models.engines.native_build import NoCompilerError, native_library
from specbench_s2d.models.weights import LlamaWeights

ENGINES = ("eager", "graphs", "native", "cuda-graphs")
"""The values of `--engine`; `graphs` is the prepared engine of the device: `native` on a CPU, `cuda-graphs` on a
GPU."""


MakeEngine = Callable[[LlamaWeights], Engine]


def prepared_engine(device: torch.device) -> str:
    """The name of the device's prepared engine."""
    return "cuda-graphs" if device.type == "cuda" else "native"


def check_engine(engine: str | MakeEngine | None, device: torch.device, dtype: torch.dtype) -> None:
    """Raise `UserError` for an unknown engine, or one that the device or the dtype does not have."""
    if not isinstance(engine, str) or engine == "eager":
        return
    if engine not in ENGINES:
        raise UserError(f"--engine {engine}: give one of {', '.join(ENGINES)}; default: the fastest possible.")
    own = prepared_engine(device)
    if engine not in ("graphs", own):
        needed = "cpu" if engine == "native" else "cuda"
        raise UserError(
            f"--engine {engine}: it runs on {needed}, and the device is {device}; give --engine {own} or eager, or "
            f"--device {needed}."
        )
    if own == "native" and dtype != torch.float32:
        given = str(dtype).removeprefix("torch.")
        raise UserError(
            f"--engine {engine}: on a CPU it computes in float32, and the dtype is {given}; give --dtype float32, or "
            "--engine eager."
        )


def choose_engine(
    asked: str | MakeEngine | None,
    name: str,
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
    build: Callable[[], object] = native_library,
) -> MakeEngine:
    """What makes the engine of a Llama-family model, for a name that has passed `check_engine`.

    `asked`: a name, a function that is returned unchanged, or None for the fastest engine. `build`: compiles the native
    kernel. Raises `ModelError` where a prepared engine is asked for that the model or the machine does not allow.
    """
    if callable(asked):
        return asked
    if asked == "eager":
        return EagerEngine
    if device.type == "cuda":
        return partial(CudaGraphEngine, asked=asked, model=name)
    why_not = _why_not_native(config, device, dtype, build)
    if why_not is None:
        return NativeEngine
    if asked is not None:
        raise ModelError(f"{name} --engine {asked}: {why_not}; use --engine eager.")
    return partial(EagerEngine, why_eager=why_not)


def _why_not_native(config: Any, device: torch.device, dtype: torch.dtype, build: Callable[[], object]) -> str | None:
    why_not = why_not_native(config, device, dtype)
    if why_not is None:
        try:
            build()
        except NoCompilerError as error:
            return str(error).partition(";")[0]
    return why_not
