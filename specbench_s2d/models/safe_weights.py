"""Tensors of safetensors files, by name; nothing of a tensor is read before it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from specbench_s2d.errors import ModelError, in_one_line


class SafeWeights:
    """The tensors of `files`; called with a tensor's name it reads that one, and raises `KeyError` where there is none.

    Raises `ModelError`, which names the model, for files that cannot be read.
    """

    def __init__(self, files: Iterable[Path], model: str) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            opened: list[Any] = [safe_open(str(file), framework="pt") for file in files]
            self._file_of = {tensor: file for file in opened for tensor in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{model}: its weight files cannot be read ({in_one_line(error, whole=True)}); fetch them again."
            ) from error

    @property
    def names(self) -> list[str]:
        """The tensors' names, file by file."""
        return list(self._file_of)

    def __call__(self, tensor: str) -> Tensor:
        found: Tensor = self._file_of[tensor].get_tensor(tensor)
        return found

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The shape of a tensor, which is not read."""
        return tuple(self._file_of[tensor].get_slice(tensor).get_shape())

    def type_name(self, tensor: str) -> str:
        """Safetensors' name of a tensor's type, such as BF16."""
        name: str = self._file_of[tensor].get_slice(tensor).get_dtype()
        return name
