"""Which engine runs a model's passes: the one asked for, else the fastest that the model and the machine allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

ENGINES = ("eager", "graphs")


@dataclass(frozen=True)
class EngineChoice:
    """`make` turns weights into passes; `why_eager`: what stands against `graphs`, where eager was not asked for."""

    name: str
    make: Callable[[LlamaWeights], Engine]
    why_eager: str | None = None


EAGER = EngineChoice("eager", EagerEngine)


def check_engine(engine: str | None) -> None:
    """Raise `UserError` for an engine that there is not."""
    if engine is not None and engine not in ENGINES:
        raise UserError(f"--engine {engine}: give one of {', '.join(ENGINES)}; the fastest possible by default.")


def choose_engine(asked: str | None, name: str, config: Any, device: torch.device, dtype: torch.dtype) -> EngineChoice:
    """The engine for a Llama-family model; raises `ModelError` where `graphs` is asked for and cannot be."""
    if asked == "eager":
        return EAGER
    if device.type == "cuda":
        return EngineChoice("graphs", partial(CudaGraphEngine, must=asked is not None, name=name))
    why_not = _why_not_graphs(config, device, dtype)
    if why_not is None:
        return EngineChoice("graphs", NativeEngine)
    if asked == "graphs":
        raise ModelError(f"{name} --engine graphs: {why_not}; use --engine eager.")
    return EngineChoice("eager", partial(EagerEngine, why_eager=why_not), why_not)


def _why_not_graphs(config: Any, device: torch.device, dtype: torch.dtype) -> str | None:
    why_not = why_not_native(config, device, dtype)
    if why_not is None:
        try:
            native_library()
        except NoCompilerError as error:
            return str(error).partition(";")[0]
    return why_not
