"""Make a model from a trained one: its first layers, or a deeper model that computes the same."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from specbench_s2d.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def cut_layers(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """The first `layers` layers of `model`, with its embedding, final norm and head.

    Raises `UserError` where the model has fewer layers.
    """
    depth = model.config.num_hidden_layers
    if not 1 <= layers <= depth:
        raise UserError(f"--layers {layers}: the source has {depth} layers; give 1 to {depth}.")
    model.model.layers = model.model.layers[:layers]
    _renumber(model, list(range(layers)))
    return model


def grow_layers(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """Insert copies of layers, spread evenly, until there are `layers` of them.

    The two output projections of an inserted layer start at zero, so it adds nothing to the residual stream, and the
    grown model computes exactly what its source does (block expansion of LLaMA Pro, arXiv 2401.02415). Raises
    `UserError` for a depth below the source's or above twice that.
    """
    depth = model.config.num_hidden_layers
    if not depth <= layers <= 2 * depth:
        raise UserError(f"--layers {layers}: a model of {depth} layers can grow to {depth} to {2 * depth} layers.")
    doubled = doubled_layers(depth, layers)
    grown, order = torch.nn.ModuleList(), []
    for i, layer in enumerate(model.model.layers):
        grown.append(layer)
        order.append(i)
        if i in doubled:
            grown.append(_zero_output_copy(layer))
            order.append(i)
    assert len(grown) == layers
    model.model.layers = grown
    _renumber(model, order)
    return model


def doubled_layers(depth: int, layers: int) -> set[int]:
    """The `layers - depth` layers, spread evenly, that are followed by a copy."""
    extra = layers - depth
    return {round((i + 1) * depth / extra) - 1 for i in range(extra)}


def _zero_output_copy(layer: torch.nn.Module) -> torch.nn.Module:
    """A copy of a layer that adds nothing to the residual stream."""
    inserted = copy.deepcopy(layer)
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        projection = inserted.get_submodule(name)
        assert isinstance(projection, torch.nn.Linear)
        torch.nn.init.zeros_(projection.weight)
        if projection.bias is not None:
            torch.nn.init.zeros_(projection.bias)
    return inserted


def _renumber(model: PreTrainedModel, order: list[int]) -> None:
    """Update configuration and cache indices for layers taken from the source in `order`."""
    model.config.num_hidden_layers = len(order)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[i] for i in order]
    for i, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = i
