"""torch.compile over the layer and the head: fewer kernels, and one-row products meant to stream at the memory's rate.

One row, and two rows or more, are compiled apart; of the latter the number is left open, and so is the bucket. The head
of a half-precision model stays plain torch calls, for a compiler need not know products whose result has another dtype.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from specbench_s2d.models.engines.layer import (
    AttentionInputs,
    PassFunctions,
    Sizes,
    Tables,
    TreeMask,
    attention_inputs,
    run_head,
    run_layer,
)
from specbench_s2d.models.weights import LayerWeights

VARIABLE = "SPECBENCH_COMPILE"
"""`0`: plain torch calls. `max`: products are chosen by timing candidates, which may take minutes."""
_MOST_VARIANTS = 64

_P = ParamSpec("_P")
_R = TypeVar("_R")


def why_not_compiled(device: torch.device) -> str | None:
    """Why layers run as plain torch calls on this device; None where they are compiled."""
    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE}=0"
    if device.type != "cuda":
        return f"not on a GPU ({device.type})"
    return None if importlib.util.find_spec("triton") else "triton is not installed"


def compiled_functions(backend: str | Callable[..., Any] = "inductor") -> PassFunctions:
    """The functions of a pass, each compiled when it is first called; `backend` as in `torch.compile`."""
    place, layer, head = (
        _compiled(attention_inputs, backend),
        _compiled(run_layer, backend),
        _compiled(run_head, backend),
    )

    def call_place(
        rows_T: Tensor, start_1: Tensor, cached_S: Tensor, tree: TreeMask | None, tables: Tables
    ) -> AttentionInputs:
        _leave_open(rows_T, 0)
        _leave_open(cached_S, 0)
        if tree is not None:
            _leave_open(tree.mask_TM, 0)
        with _settings():
            return place(rows_T, start_1, cached_S, tree, tables)

    def call_layer(
        hidden_TD: Tensor,
        place: AttentionInputs,
        keys_KSC: Tensor,
        values_KSC: Tensor,
        weights: LayerWeights,
        sizes: Sizes,
    ) -> Tensor:
        for rows in (hidden_TD, place.at_T, place.cos_T1C, place.sin_T1C):
            _leave_open(rows, 0)
        _leave_open(place.seen_RS, 0, 1)
        with _settings():
            return layer(hidden_TD, place, keys_KSC, values_KSC, weights, sizes)

    def call_head(hidden_TD: Tensor, norm_D: Tensor, head_VD: Tensor, eps: float) -> Tensor:
        if hidden_TD.dtype != torch.float32:
            return run_head(hidden_TD, norm_D, head_VD, eps)
        _leave_open(hidden_TD, 0)
        with _settings():
            return head(hidden_TD, norm_D, head_VD, eps)

    return PassFunctions(call_place, call_layer, call_head)


def _compiled(function: Callable[_P, _R], backend: str | Callable[..., Any]) -> Callable[_P, _R]:
    options: dict[str, Any] | None = None
    if backend == "inductor":
        # Only so tuned are one-row products turned into reductions, meant to reach the memory's rate (not measured).
        options = {"coordinate_descent_tuning": True, "max_autotune_gemm": os.environ.get(VARIABLE) == "max"}
    return torch.compile(function, fullgraph=True, backend=backend, options=options)


def _leave_open(tensor: Tensor, *dims: int) -> None:
    for dim in dims:
        if tensor.shape[dim] > 1:
            torch._dynamo.maybe_mark_dynamic(tensor, dim)


def _settings() -> AbstractContextManager[Any]:
    """Sizes are open where they are marked and nowhere else; each model's shape is a variant of its own."""
    patched: AbstractContextManager[Any] = torch._dynamo.config.patch(
        automatic_dynamic_shapes=False, recompile_limit=_MOST_VARIANTS, fail_on_recompile_limit_hit=True
    )
    return patched
