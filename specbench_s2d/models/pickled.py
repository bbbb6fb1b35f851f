"""Weights that are pickles (`.bin`, `.pt`), read only with torch's restricted unpickler: no code in them can run."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError, in_one_line
from specbench_s2d.models.weight_files import WeightFiles

_ASKED_FOR = re.compile(r"GLOBAL (\S+)")
ReadFile = Callable[[Path, str], dict[str, Tensor]]


class PickledWeights:
    """Tensors of `pytorch_model.bin`, or of its shards, by name; each file is opened when first needed.

    A zip file is memory-mapped. A file of the older format is read completely, and each of its tensors is released when
    returned, so that a checkpoint is never held twice; a tensor requested again is read again. `read`: reads all
    tensors of a file. Raises `KeyError` for an unknown name, `ModelError` for a file that cannot be read or holds
    anything but named tensors.
    """

    def __init__(self, weights: WeightFiles, name: str, read: ReadFile | None = None) -> None:
        self._name, self._read = name, read or read_pickle
        self._held: dict[Path, dict[str, Tensor]] = {}
        self._shard_of = weights.shard_of or {
            tensor: file for file in weights.files for tensor in self._open(file)
        }  # fmt: skip

    @property
    def names(self) -> list[str]:
        """The tensors that there are."""
        return list(self._shard_of)

    def __call__(self, tensor: str) -> Tensor:
        file = self._shard_of[tensor]
        held = self._held.get(file, {})
        return (held if tensor in held else self._open(file)).pop(tensor).detach()

    def _open(self, file: Path) -> dict[str, Tensor]:
        self._held[file] = self._read(file, self._name)
        return self._held[file]


def read_pickle(file: Path, name: str) -> dict[str, Tensor]:
    """All tensors of one file by name, on the CPU; raises `ModelError`."""
    try:
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise refusal(name, file.name, error) from error
    except Exception as error:  # damaged bytes surface as struct, zip, key, end-of-file and many other errors
        reason = in_one_line(error, 160).rstrip(".")
        raise ModelError(f"{name}: {file.name} cannot be read ({reason}); fetch it again.") from error
    if not isinstance(held, dict) or not all(isinstance(tensor, Tensor) for tensor in held.values()):
        raise ModelError(f"{name}: {file.name} is not a table of tensors by name; give a checkpoint's own weights.")
    return held


def refusal(name: str, file: str, error: pickle.UnpicklingError) -> ModelError:
    """The error for a pickle that the restricted unpickler refused; torch's own message tells how to run its code."""
    asked = _ASKED_FOR.search(str(error))
    if asked is None:
        return ModelError(f"{name}: {file} is not a pickle of weights; fetch it again, or give safetensors.")
    return ModelError(
        f"{name}: {file} asks for {asked[1].rstrip('.,')}; of this file, which is a pickle, only tensors are read "
        "and no code is run; give safetensors weights."
    )
