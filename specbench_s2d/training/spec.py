"""`TrainSpec`: the settings of a training run.

Its field names are the long flags of `specbench-s2d train lm|sft|soft`, with underscores. A checkpoint stores all
fields; fields missing in an older checkpoint count as their defaults, so the default of a new field must change
nothing.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from specbench_s2d.errors import UserError
from specbench_s2d.spelling import choice, whole_number


class TrainSpec(BaseModel):
    """Everything that determines the trained weights, apart from the data and the initial model."""

    model_config = ConfigDict(extra="forbid")

    tokens: int = Field(gt=0, le=10**14, description="Tokens to train on, prompts included.")
    length: int = Field(default=1024, gt=1, le=10**7, description="Positions of a packed sequence.")
    batch: int = Field(default=8, gt=0, le=10**6, description="Sequences of one optimiser step.")
    micro_batch: int = Field(default=4, gt=0, le=10**6, description="Sequences of one forward pass.")
    exits: tuple[int, ...] = Field(
        default=(),
        description="Depths of the exits, in layers, such as 6,9,12; default: half, three quarters, all of the layers.",
    )
    loss_on: Literal["all", "answers"] = Field(
        default="all", description="Tokens that count in the loss: all or answers."
    )
    optimizer: Literal["adamw", "muon"] = Field(
        default="adamw", description="adamw; or muon for the layers' matrices and adamw for the rest."
    )
    learning_rate: float = Field(default=2e-3, gt=0, le=10, allow_inf_nan=False, description="Highest learning rate.")
    warmup: float = Field(
        default=0.04, ge=0, lt=1, description="Share of the steps with a rising learning rate, 0 to 1."
    )
    final_lr: float = Field(default=0.05, ge=0, le=1, description="Last learning rate, as a share of the highest.")
    weight_decay: float = Field(default=0.05, ge=0, allow_inf_nan=False, description="Decoupled weight decay.")
    clip: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="Largest norm of the gradient; a larger one is scaled down."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of new weights and of the data's order.")
    autocast: bool = Field(default=True, description="Compute in bfloat16 with weights in float32.")
    validate_every: int = Field(default=200, gt=0, description="Steps between two validations.")
    checkpoint_every: int = Field(default=100, gt=0, description="Steps between two checkpoints.")
    device: str = Field(default="cpu", description="cpu, cuda, cuda:1 …")
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute layers in the backward pass, to use less memory."
    )
    lora_rank: int = Field(
        default=0, ge=0, le=10**4, description="Train LoRA adapters of this rank, merged at the end; 0: none."
    )
    lora_alpha: float = Field(
        default=16.0, gt=0, allow_inf_nan=False, description="Scale of LoRA adapters: alpha / rank."
    )

    draft_vocabulary: int = Field(
        default=0,
        ge=0,
        description="Learn over this many ids, the most frequent of the answers, as draft_vocabulary=N; 0: all.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_it_is_meant(cls, given: Any, info: ValidationInfo) -> Any:
        """Values that people write in several ways: 10k, AdamW."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        return whole_number(given) if annotation is int else choice(annotation, given)

    @field_validator("exits", mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """Accept `6,9,12`, as typed on the command line."""
        return given.split(",") if isinstance(given, str) and given else given or ()

    @property
    def steps(self) -> int:
        """Optimiser steps: tokens / (batch * length), rounded, at least 1."""
        return max(1, round(self.tokens / (self.batch * self.length)))


def make_train_spec(fields: dict[str, Any]) -> TrainSpec:
    """A specification from flags; raises `UserError` that names the first invalid one."""
    try:
        spec = TrainSpec(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        flag, given = "--" + name.replace("_", "-"), fields.get(name, first["input"])
        raise UserError(f"{flag} {given}: {first['msg'][0].lower()}{first['msg'][1:]}.") from None
    if not spec.lora_rank and spec.lora_alpha != TrainSpec.model_fields["lora_alpha"].default:
        raise UserError(
            f"--lora-alpha {spec.lora_alpha:g}: it scales LoRA adapters; give their rank too, --lora-rank N."
        )
    return spec
