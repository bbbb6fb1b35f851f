"""torch.compile over the layer and the head: fewer kernels (docs/gpu.md).

One row, and two or more, are compiled separately; for the latter the number of rows is dynamic, as is the length
bucket. The head of a half-precision model stays in plain torch, as compilers may not support products with another
output dtype.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

from specbench_s2d.models.engines.layer import (
    PLAIN,
    AttentionInputs,
    PassFunctions,
    Sizes,
    Tables,
    TreeMask,
    run_head,
)
from specbench_s2d.models.weights import LayerWeights

VARIABLE = "SPECBENCH_COMPILE"
"""`0`: no compilation. `max`: matrix products are chosen by timing candidates, which may take minutes."""
_MOST_VARIANTS = 64

_P = ParamSpec("_P")
_R = TypeVar("_R")


def why_not_compiled(device: torch.device) -> str | None:
    """Why layers are not compiled on this device; None where they are."""
    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE}=0"
    if device.type != "cuda":
        return f"not on a GPU ({device.type})"
    return None if importlib.util.find_spec("triton") else "triton is not installed"


def compiled_functions(backend: str | Callable[..., Any] = "inductor") -> PassFunctions:
    """The functions of a pass, each compiled at its first call; `backend` as in `torch.compile`."""
    inputs_of, layer_of = _Compiled(PLAIN.attention_inputs, backend), _Compiled(PLAIN.run_layer, backend)
    head_of = _Compiled(PLAIN.run_head, backend)

    def call_attention_inputs(
        rows_T: Tensor, start_1: Tensor, cached_S: Tensor, tree: TreeMask | None, tables: Tables
    ) -> AttentionInputs:
        _mark_dynamic(rows_T, 0)
        _mark_dynamic(cached_S, 0)
        if tree is not None:
            _mark_dynamic(tree.mask_TM, 0)
        return inputs_of(rows_T, start_1, cached_S, tree, tables)

    def call_layer(
        hidden_TD: Tensor,
        inputs: AttentionInputs,
        keys_KSC: Tensor,
        values_KSC: Tensor,
        weights: LayerWeights,
        sizes: Sizes,
        attended_TX: Tensor | None = None,
    ) -> Tensor:
        given = (hidden_TD, attended_TX, inputs.slots_T, inputs.cos_T1C, inputs.sin_T1C)
        for rows in (tensor for tensor in given if tensor is not None):
            _mark_dynamic(rows, 0)
        _mark_dynamic(inputs.mask_RS, 0, 1)
        return layer_of(hidden_TD, inputs, keys_KSC, values_KSC, weights, sizes, attended_TX)

    def call_head(hidden_TD: Tensor, norm_D: Tensor | None, head_VD: Tensor, eps: float) -> Tensor:
        if hidden_TD.dtype != torch.float32:
            return run_head(hidden_TD, norm_D, head_VD, eps)
        _mark_dynamic(hidden_TD, 0)
        return head_of(hidden_TD, norm_D, head_VD, eps)

    return PassFunctions(call_attention_inputs, call_layer, call_head)


class _Compiled(Generic[_P, _R]):
    """A function that is compiled at its first call, and again for each new combination of sizes.

    torch keeps the variants of a function by its code, of all models and engines of a process together, and refuses to
    compile more of them than a limit. A function that comes to it goes on as a copy of its code, with none yet.
    """

    def __init__(self, function: Callable[_P, _R], backend: str | Callable[..., Any]) -> None:
        assert isinstance(function, FunctionType)
        self._function, self._backend = function, backend
        self._call: Callable[_P, _R] = self._fresh(function)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        from torch._dynamo.exc import FailOnRecompileLimitHit  # here, for it takes a second where nothing is compiled

        with _settings():
            try:
                return self._call(*args, **kwargs)
            except FailOnRecompileLimitHit:
                self._call = self._fresh(_copy_of(self._function))
                return self._call(*args, **kwargs)

    def _fresh(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        options: dict[str, Any] | None = None
        if self._backend == "inductor":
            # With this tuning, products of one row become reductions.
            options = {"coordinate_descent_tuning": True, "max_autotune_gemm": os.environ.get(VARIABLE) == "max"}
        return torch.compile(function, fullgraph=True, backend=self._backend, options=options)


def _copy_of(function: FunctionType) -> FunctionType:
    """The function over a code object of its own."""
    f = function
    return FunctionType(f.__code__.replace(), f.__globals__, f.__name__, f.__defaults__, f.__closure__)


def _mark_dynamic(tensor: Tensor, *dims: int) -> None:
    for dim in dims:
        if tensor.shape[dim] > 1:
            torch._dynamo.maybe_mark_dynamic(tensor, dim)


def _settings() -> AbstractContextManager[Any]:
    """Only marked sizes are dynamic; the sizes of each model are a variant of their own."""
    patched: AbstractContextManager[Any] = torch._dynamo.config.patch(
        automatic_dynamic_shapes=False, recompile_limit=_MOST_VARIANTS, fail_on_recompile_limit_hit=True
    )
    return patched
