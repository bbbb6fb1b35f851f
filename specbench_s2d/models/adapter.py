"""A draft that is the first layers of a base model with a LoRA adapter added to them (arXiv 2106.09685, equation 3).

Its folder holds the adapter in peft's format, a config.json with the number of layers and the exits, and no weights of
its own: embedding, final norm and head are the base's. peft drops the factors of layers that a model lacks without a
word, so here the adapter must have both factors of every matrix of every layer, and no others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError, in_one_line
from specbench_s2d.models.model_files import check_file, read_object
from specbench_s2d.models.stored_weights import check_finite, check_type, type_name
from specbench_s2d.models.weights import Weights

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MATRICES = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
"""The matrices of a layer that an adapter has factors of, by module."""
_PREFIX = "base_model.model."
_FACTOR = re.compile(r"base_model\.model\.(model\.layers\.(\d+)\.(\w+)\.(\w+))\.lora_([AB])\.weight")


def factor_name(matrix: str, factor: str) -> str:
    """peft's name of a factor (`A` or `B`) of the matrix, as `model.layers.0.mlp.up_proj`."""
    return f"{_PREFIX}{matrix}.lora_{factor}.weight"


@dataclass(frozen=True)
class Adapter:
    """The adapter of a folder: what base it is for, by name or folder, and its scale, alpha / rank."""

    folder: Path
    base: str
    scale: float
    rank: int

    @classmethod
    def find(cls, folder: Path, name: str) -> Adapter | None:
        """The adapter in `folder`, None where there is none; raises `ModelError` for one of another kind."""
        file = folder / CONFIG
        if not file.is_file():
            return None
        fields = read_object(file, name)
        read: tuple[Any, ...] = tuple(fields.get(field) for field in ("base_model_name_or_path", "r", "lora_alpha"))
        base, rank, alpha = read
        wrong = {
            "base_model_name_or_path": not (isinstance(base, str) and 0 < len(base) < 1000 and base.isprintable()),
            "r": type(rank) is not int or rank < 1,
            "lora_alpha": type(alpha) not in (int, float) or not isfinite(alpha),
        }
        for field in (field for field, is_wrong in wrong.items() if is_wrong):
            given = str(fields.get(field))[:80]
            raise ModelError(f"{name}: {CONFIG} is no LoRA configuration of peft ({field} is {given}); fetch it again.")
        scale = float(alpha) / (rank**0.5 if fields.get("use_rslora") else rank)
        kind = str(fields.get("peft_type"))
        if kind != "LORA" or fields.get("use_dora") or fields.get("bias", "none") != "none":
            raise ModelError(f"{name}: its adapter is {kind}; a draft's adapter is LORA, without biases and DoRA.")
        check_file(folder / WEIGHTS, name)
        if not (folder / WEIGHTS).is_file():
            raise ModelError(f"{name}: {folder} holds {CONFIG} and no {WEIGHTS}; fetch it again.")
        return cls(folder, base, scale, rank)

    @property
    def file(self) -> Path:
        return self.folder / WEIGHTS

    def over(self, read: Weights, layers: int, name: str) -> Weights:
        """`read` with B A times the scale added to the matrices of the first `layers` layers, in float32.

        Raises `ModelError` where factors lack or are of layers that the draft does not have.
        """
        factors = self._factors(layers, name)

        def adapted(tensor: str) -> Tensor:
            stored = read(tensor)
            matrix = tensor.removesuffix(".weight")
            if matrix not in factors:
                return stored
            a_RD, b_ER = (factor.to(stored.device, torch.float32) for factor in factors[matrix])
            if (b_ER.shape[0], a_RD.shape[1]) != tuple(stored.shape):
                raise ModelError(
                    f"{name}: its adapter changes {matrix} of {b_ER.shape[0]} × {a_RD.shape[1]}, the base's is "
                    f"{stored.shape[0]} × {stored.shape[1]}; give the base that it was trained over ({self.base})."
                )
            return (stored.float() + self.scale * (b_ER @ a_RD)).to(stored.dtype)

        return adapted

    def _factors(self, layers: int, name: str) -> dict[str, tuple[Tensor, Tensor]]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            stored = load_file(str(self.file))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{name}: {WEIGHTS} cannot be read ({in_one_line(error)}); fetch it again.") from error
        wanted = {
            f"model.layers.{i}.{module}.{matrix}"
            for i in range(layers)
            for module, matrices in MATRICES.items()
            for matrix in matrices
        }
        names = {factor_name(matrix, factor) for matrix in wanted for factor in "AB"}
        if names != stored.keys():
            raise ModelError(
                f"{name}: its adapter is not of the {layers} layers that config.json names "
                f"({_layers_of(stored)}); it would be loaded in part. Train it again, or fetch it again."
            )
        for factor_of, factor in stored.items():
            check_type(type_name(factor.dtype), factor_of, name)
            check_finite(factor, factor, factor_of, name)
        factors = {m: (stored[factor_name(m, "A")], stored[factor_name(m, "B")]) for m in wanted}
        for matrix, (a_RD, b_ER) in factors.items():
            if not (a_RD.dim() == b_ER.dim() == 2 and a_RD.shape[0] == b_ER.shape[1] == self.rank):
                raise ModelError(
                    f"{name}: the factors of {matrix} are {tuple(a_RD.shape)} and {tuple(b_ER.shape)}, and {CONFIG} "
                    f"says rank {self.rank}; fetch the adapter again."
                )
        return factors


def _layers_of(stored: dict[str, Tensor]) -> str:
    found = [int(match.group(2)) for match in map(_FACTOR.fullmatch, stored) if match]
    return f"{len(stored)} tensors, layers {min(found)} to {max(found)}" if found else f"{len(stored)} tensors"
