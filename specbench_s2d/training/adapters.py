"""LoRA through peft: small trained matrices beside the layers' frozen ones, added to them at the end."""

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
    """peft, which only LoRA needs; raises `UserError` with the command that installs it."""
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise UserError(
            f"--lora-rank {rank}: LoRA needs peft, which is not installed; pip install 'specbench-s2d[train]'."
        ) from None


def add_adapters(model: PreTrainedModel, spec: TrainSpec) -> Any:
    """Put adapters beside every matrix of the layers, in place, and freeze the rest; returns peft's tuner.

    An adapter starts as zero (its second factor is), so the model computes at first what it did.
    """
    peft = import_peft(spec.lora_rank)
    torch.manual_seed(spec.seed)
    config = peft.LoraConfig(r=spec.lora_rank, lora_alpha=spec.lora_alpha, target_modules=list(TARGETS))
    return peft.LoraModel(model, config, "default")


def merge_adapters(tuner: Any) -> PreTrainedModel:
    """The model with its adapters added to its weights, and nothing of peft left in it."""
    merged: PreTrainedModel = tuner.merge_and_unload()
    return merged
