"""Matrices of draft heads in 8 bits: int8 with a float32 scale per row, under compressed-tensors' names.

`NAME.weight` (R, C) int8 and `NAME.weight_scale` (R, 1) are the matrix weight * weight_scale. Norms, biases and maps of
ids are stored as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.stored_weights import FLOATS, type_name
from specbench_s2d.models.weights import Weights

BITS = (8, 16)
SCALE = "_scale"
_LARGEST = 127


def in_bits(tensors: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """Tensors of a head as its file holds them: floating-point numbers in bfloat16, of 8 `bits` the matrices in int8.

    A weight then differs by half a step at most, and a step is the largest absolute value of its row over 127.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if bits == 8 and tensor.dim() == 2 and name.endswith(".weight"):
            stored[name], stored[name + SCALE] = _rounded(tensor.float())
        else:
            stored[name] = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
    return {name: tensor.contiguous().cpu() for name, tensor in stored.items()}


def _rounded(matrix_RC: Tensor) -> tuple[Tensor, Tensor]:
    scale_R1 = matrix_RC.abs().amax(-1, keepdim=True) / _LARGEST
    scale_R1[scale_R1 == 0] = 1
    return (matrix_RC / scale_R1).round().to(torch.int8), scale_R1


def without_scales(shapes: Mapping[str, tuple[int, ...]], name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a head's own tensors; raises `ModelError` for scales that are not one per row of a matrix."""
    for scale in (tensor for tensor in shapes if tensor.endswith(".weight" + SCALE)):
        matrix = shapes.get(scale.removesuffix(SCALE), ())
        if len(matrix) != 2 or shapes[scale] != (matrix[0], 1):
            raise ModelError(
                f"{name}: {scale!r} is {shapes[scale]}, beside a weight of {matrix or 'none'}; a draft head in 8 bits "
                "has a scale (rows, 1) beside each matrix (rows, columns)."
            )
    return {tensor: shape for tensor, shape in shapes.items() if not tensor.endswith(".weight" + SCALE)}


def unscaled(stored: Weights, name: str) -> Weights:
    """`stored`, with matrices in int8 multiplied by their scales, in float32; raises `ModelError` where these lack, or
    where numbers of another type have scales."""

    def read(tensor: str) -> Tensor:
        found = stored(tensor)
        scale = _or_none(stored, tensor + SCALE)
        if scale is None and found.dtype != torch.int8:
            return found
        if scale is None:
            raise ModelError(f"{name}: {tensor!r} is stored as int8 without {tensor + SCALE!r}; fetch the head again.")
        kinds = type_name(found.dtype), type_name(scale.dtype)
        if kinds[0] != "int8" or kinds[1] not in FLOATS:
            raise ModelError(
                f"{name}: {tensor!r} is {kinds[0]} with a scale in {kinds[1]}; a draft head in 8 bits has int8 with "
                "scales in float32 or bfloat16."
            )
        return found.float() * scale.float()

    return read


def _or_none(stored: Weights, name: str) -> Tensor | None:
    try:
        return stored(name)
    except KeyError:
        return None
