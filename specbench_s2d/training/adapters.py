"""LoRA (low-rank adaptation) through peft: small matrices are trained beside frozen ones, and merged at the end."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from specbench_s2d.errors import UserError
from specbench_s2d.models.adapter import MATRICES, WEIGHTS, factor_name
from specbench_s2d.training.spec import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TARGETS = tuple(matrix for matrices in MATRICES.values() for matrix in matrices)


def import_peft(rank: int) -> Any:
    """The module peft; raises `UserError` with the command that installs it."""
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise UserError(
            f"--lora-rank {rank}: LoRA needs peft, which is not installed; pip install 'specbench-s2d[train]'."
        ) from None


def add_adapters(model: PreTrainedModel, spec: TrainSpec) -> Any:
    """Add an adapter to every matrix of the layers, in place, and freeze all other weights; returns peft's tuner.

    The second factor of an adapter starts at zero, so the model initially computes what it did before.
    """
    peft = import_peft(spec.lora_rank)
    torch.manual_seed(spec.seed)
    config = peft.LoraConfig(r=spec.lora_rank, lora_alpha=spec.lora_alpha, target_modules=list(TARGETS))
    return peft.LoraModel(model, config, "default")


def save_adapter(tuner: Any, folder: Path, base: str) -> None:
    """Write the adapter of `add_adapters` in peft's format, factors in bfloat16, as one for the model `base`."""
    from safetensors.torch import save_file

    mark = ".lora_{}.default.weight"
    factors = {
        factor_name(name.removesuffix(mark.format(factor)), factor): weight.detach().to("cpu", torch.bfloat16)
        for name, weight in tuner.model.named_parameters()
        for factor in "AB"
        if name.endswith(mark.format(factor))
    }
    save_file(factors, str(folder / WEIGHTS), metadata={"format": "pt"})
    config = tuner.peft_config["default"]
    config.base_model_name_or_path, config.inference_mode, config.task_type = base, True, "CAUSAL_LM"
    config.save_pretrained(str(folder))


def merge_adapters(tuner: Any) -> PreTrainedModel:
    """The model with its adapters merged into its weights, without peft's modules."""
    merged: PreTrainedModel = tuner.merge_and_unload()
    return merged
