"""LoRA (low-rank adaptation) through peft: small matrices are trained beside frozen ones, and merged at the end."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch

from specbench_s2d.errors import UserError
from specbench_s2d.training.spec import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


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


def merge_adapters(tuner: Any) -> PreTrainedModel:
    """The model with its adapters merged into its weights, without peft's modules."""
    merged: PreTrainedModel = tuner.merge_and_unload()
    return merged
