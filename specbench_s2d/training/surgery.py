"""Make a new model out of a trained one: cut its first layers, or grow it in depth without changing what it computes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from specbench_s2d.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def cut_layers(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """The first `layers` layers of `model`, with its embedding, final norm and head.

    Raises `UserError` when the source has no more than that many layers.
    """
    depth = model.config.num_hidden_layers
    if not 1 <= layers <= depth:
        raise UserError(f"--layers {layers}: the source has {depth} layers; give 1 to {depth}.")
    model.model.layers = model.model.layers[:layers]
    _set_depth(model, layers)
    return model


def grow_layers(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """Insert copies of layers, spread evenly, until there are `layers` of them.

    An inserted layer's two output projections start at zero, so that it adds nothing to the residual stream:
    the grown model computes exactly what its source did, and training goes on from there (the block expansion
    of LLaMA Pro, arXiv 2401.02415).
    """
    depth = model.config.num_hidden_layers
    if not depth <= layers <= 2 * depth:
        raise UserError(f"--layers {layers}: a model of {depth} layers grows to {depth} to {2 * depth}, each doubled at most.")
    extra = layers - depth
    doubled = {round((i + 1) * depth / extra) - 1 for i in range(extra)} if extra else set()
    grown = torch.nn.ModuleList()
    for i, layer in enumerate(model.model.layers):
        grown.append(layer)
        if i in doubled:
            inserted = copy.deepcopy(layer)
            torch.nn.init.zeros_(inserted.self_attn.o_proj.weight)
            torch.nn.init.zeros_(inserted.mlp.down_proj.weight)
            grown.append(inserted)
    assert len(grown) == layers
    model.model.layers = grown
    _set_depth(model, layers)
    return model


def _set_depth(model: PreTrainedModel, layers: int) -> None:
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = list(model.config.layer_types[:1]) * layers
    for i, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = i
