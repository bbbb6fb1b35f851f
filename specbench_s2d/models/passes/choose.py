"""Which engine runs a model's passes: the one asked for, else the fastest that the model and the machine allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from specbench_s2d.errors import ModelError, UserError, first_line
from specbench_s2d.models.passes.base import Passes, Request
from specbench_s2d.models.passes.build import NoCompilerError, native_library
from specbench_s2d.models.passes.capture import Capture
from specbench_s2d.models.passes.eager import EagerPasses
from specbench_s2d.models.passes.graphs import GraphPasses
from specbench_s2d.models.passes.native import NativePasses, why_not_native
from specbench_s2d.models.sending import send
from specbench_s2d.models.weights import LlamaWeights

ENGINES = ("eager", "graphs")
_SAME = 0.05  # of the largest logit: bfloat16 keeps three digits, layer after layer


@dataclass(frozen=True)
class Engine:
    """`make` turns weights into passes; `why_eager`: what stands against `graphs`, where eager was not asked for."""

    name: str
    make: Callable[[LlamaWeights], Passes]
    why_eager: str | None = None


EAGER = Engine("eager", EagerPasses)


def check_engine(engine: str | None) -> None:
    """Raise `UserError` for an engine that there is not."""
    if engine is not None and engine not in ENGINES:
        raise UserError(f"--engine {engine}: give one of {', '.join(ENGINES)}; the fastest possible by default.")


def choose_engine(asked: str | None, name: str, config: Any, device: torch.device, dtype: torch.dtype) -> Engine:
    """The engine for a Llama-family model; raises `ModelError` where `graphs` is asked for and cannot be."""
    if asked == "eager":
        return EAGER
    if device.type == "cuda":
        return Engine("graphs", GraphPasses if asked else graphs_or_eager)
    why_not = _why_not_graphs(config, device, dtype)
    if why_not is None:
        return Engine("graphs", NativePasses)
    if asked == "graphs":
        raise ModelError(f"{name} --engine graphs: {why_not}; use --engine eager.")
    return Engine("eager", partial(EagerPasses, why_eager=why_not), why_not)


def graphs_or_eager(weights: LlamaWeights, capture: Capture | None = None) -> Passes:
    """CUDA graphs where they work: a token and a pair of them come out as they do eagerly. Else eager, which says why.

    Drivers, compilers and memory can all stand in the way, each with errors of its own; whoever asked for `graphs` by
    name is shown them.
    """
    try:
        passes = GraphPasses(weights, capture)
        difference = _difference(passes, EagerPasses(weights))
    except Exception as error:
        return EagerPasses(weights, f"graphs failed here ({type(error).__name__}: {first_line(error)[:200]})")
    if difference > _SAME:
        return EagerPasses(weights, f"graphs differ from eager by {difference:.1%} of the largest logit here")
    return passes


@torch.inference_mode()
def _difference(ours: Passes, plain: Passes) -> float:
    """The largest difference of logits in a pass of one token and in one of two, over the largest logit."""
    largest, depth = 0.0, len(plain.cache.layers)
    for ids in ([1], [2, 3]):
        logits = []
        for passes in (ours, plain):
            passes.reserve(8)
            ids_T = send(ids, plain.cache.device)
            logits.append(passes.run(Request(ids_T, len(ids) - 1, 0, depth, head=True)))
        largest = max(largest, float((logits[0] - logits[1]).abs().max() / logits[1].abs().max()))
    return largest


def _why_not_graphs(config: Any, device: torch.device, dtype: torch.dtype) -> str | None:
    why_not = why_not_native(config, device, dtype)
    if why_not is None:
        try:
            native_library()
        except NoCompilerError as error:
            return str(error).partition(";")[0]
    return why_not
