"""The exits of a nested draft in training: defaults, checks, and their place in the config (arXiv 2407.01955)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.exits import CONFIG_KEY
from specbench_s2d.training.spec import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def default_exits(depth: int) -> tuple[int, ...]:
    """Half, three quarters and all of the layers, rounded up: 6, 9, 12 of 12 as in the paper; 2, 3, 4 of 4."""
    return tuple(sorted({-(-depth * quarters // 4) for quarters in (2, 3, 4)}))


def check_exit_flags(exits: Sequence[int], depth: int) -> None:
    """Raise `UserError` for exits that a model of `depth` layers cannot have."""
    given = ",".join(map(str, exits))
    example = ",".join(map(str, default_exits(depth)))
    rule = f"give depths that rise to the model's {depth} layers, such as {example}."
    if list(exits) != sorted(set(exits)):
        raise UserError(f"--exits {given}: an exit is repeated or out of order; {rule}")
    if exits[0] < 1:
        raise UserError(f"--exits {given}: an exit at {exits[0]} is below the first layer; {rule}")
    if exits[-1] > depth:
        raise UserError(f"--exits {given}: an exit at {exits[-1]} is above the model's depth; {rule}")
    if exits[-1] < depth:
        raise UserError(f"--exits {given}: the last exit, {exits[-1]}, is not the model's last layer; {rule}")


def nested_spec(spec: TrainSpec, depth: int) -> TrainSpec:
    """`spec` with exits for a draft of `depth` layers: its own, checked, or `default_exits`."""
    exits = spec.exits or default_exits(depth)
    check_exit_flags(exits, depth)
    return spec.model_copy(update={"exits": exits})


def check_nested(model: PreTrainedModel, exits: Sequence[int], source: str) -> None:
    """Raise an error for a model that cannot be a draft with these exits.

    `UserError` for the exits, `ModelError` for a checkpoint whose layers cannot be run in ranges.
    """
    from specbench_s2d.models.llama import why_not_lean

    check_exit_flags(exits, model.config.num_hidden_layers)
    reason = why_not_lean(model.config)
    if reason:
        raise ModelError(
            f"{source}: exits need a Llama-family checkpoint whose layers can be run one by one, and this one has "
            f"{reason}; train it without exits (`train sft`)."
        )


def declare_exits(model: PreTrainedModel, exits: Sequence[int]) -> None:
    """Write a nested draft's exits to its configuration, as `specbench_exits`.

    Without exits, those of the source are removed, as training with another objective does not preserve them.
    """
    if exits:
        setattr(model.config, CONFIG_KEY, list(exits))
    elif hasattr(model.config, CONFIG_KEY):
        delattr(model.config, CONFIG_KEY)
