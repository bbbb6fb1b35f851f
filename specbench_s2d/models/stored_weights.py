"""What the tensors of a checkpoint must be: floating-point numbers, every one finite."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.pickled import read_pickle
from specbench_s2d.models.safe_weights import SafeWeights
from specbench_s2d.models.weight_files import WeightFiles

FLOATS = frozenset({"float64", "float32", "bfloat16", "float16", "F64", "F32", "BF16", "F16"})
"""Types whose numbers are weights as they stand, as torch and as safetensors call them."""


def type_name(dtype: torch.dtype) -> str:
    """torch's name of a dtype, without its module."""
    return str(dtype).removeprefix("torch.")


def check_type(kind: str, tensor: str, model: str) -> None:
    """Raise `ModelError` for numbers that mean nothing without scales, which a quantised checkpoint's config states."""
    if kind not in FLOATS:
        raise ModelError(
            f"{model}: {tensor!r} is stored as {kind}, and config.json has no quantization_config that says how such "
            "numbers are scaled; give the config.json of the quantised checkpoint, or weights in float32, bfloat16 or "
            "float16."
        )


def check_finite(loaded: Tensor, stored: Tensor, tensor: str, model: str) -> None:
    """Raise `ModelError` for a tensor with NaN or inf in it, as `loaded` on its device and in its dtype from `stored`.

    One pass over it, without another tensor as large: the least and the largest value of a tensor with NaN are NaN.
    """
    if not loaded.numel():
        return
    least, largest = torch.aminmax(loaded)
    if isfinite(float(least)) and isfinite(float(largest)):
        return
    of_stored, of_loaded = _not_finite(stored), _not_finite(loaded)
    if not of_stored:
        kind = type_name(loaded.dtype)
        raise ModelError(
            f"{model}: {of_loaded:,} of the {loaded.numel():,} values of {tensor!r} lie beyond the range of {kind}; "
            "give --dtype bfloat16 or float32."
        )
    raise ModelError(
        f"{model}: {of_stored:,} of the {stored.numel():,} values of {tensor!r} are NaN or inf; its weights are "
        "damaged: fetch them again."
    )


def check_module(module: Any, weights: WeightFiles | None, model: str) -> None:
    """The same of transformers' own model. `weights`: its files; None for quantised ones, whose types are their own."""
    parameters = dict(module.named_parameters())
    for name, kind in _unscaled(weights, model).items() if weights else ():
        if _is_of(name, parameters):  # others may be buffers, such as masks
            check_type(kind, name, model)
    for name, parameter in parameters.items():
        if type_name(parameter.dtype) in FLOATS:
            check_finite(parameter.detach(), parameter.detach(), name, model)


def _unscaled(weights: WeightFiles, model: str) -> dict[str, str]:
    """The tensors in the files that are no plain floating-point numbers, with their types; of `.bin` files of the older
    format, which would be read whole again, none."""
    types: dict[str, str] = {}
    if not weights.pickled:
        stored = SafeWeights(weights.files, model)
        types = {name: stored.type_name(name) for name in stored.names}
    for file in weights.files if weights.pickled else ():
        if zipfile.is_zipfile(file):
            types |= {name: type_name(tensor.dtype) for name, tensor in read_pickle(file, model).items()}
    return {name: kind for name, kind in types.items() if kind not in FLOATS}


def _not_finite(tensor: Tensor) -> int:
    return tensor.numel() - int(tensor.isfinite().sum())


def _is_of(stored: str, parameters: Iterable[str]) -> bool:
    """Whether a name in the files is a parameter's; either may have a prefix (`transformer.`) that the other lacks."""
    return any(name == stored or name.endswith(f".{stored}") or stored.endswith(f".{name}") for name in parameters)
