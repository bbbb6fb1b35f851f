"""Medusa's trees on the device, cut to the heads at hand. Shapes: `G` nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from specbench_s2d.decoding.tree import Tree
from specbench_s2d.models.heads.medusa_trees import Node
from specbench_s2d.models.transfer import to_device


@dataclass(frozen=True)
class Layout:
    """A tree on the device. `places_G`: where each node's token is found among `ranks` likeliest of each head, as
    head * `ranks` + rank. `levels`: heads that it takes."""

    places_G: Tensor
    levels: int
    ranks: int
    tree: Tree


@lru_cache(maxsize=128)
def lay_out(nodes: tuple[Node, ...], tokens: int, heads: int, ranks: int, device: torch.device) -> Layout | None:
    """The first `tokens` of the nodes that `heads` heads and `ranks` ids of each allow, level by level; None for
    none."""
    allowed = [node for node in nodes if len(node) <= heads and max(node) < ranks][:tokens]
    ordered = sorted(allowed, key=lambda node: (len(node), node))
    if not ordered:
        return None
    index = {node: i for i, node in enumerate(ordered)}
    parents = [index.get(node[:-1], -1) for node in ordered]
    most = 1 + max(rank for node in ordered for rank in node)
    places = [(len(node) - 1) * most + node[-1] for node in ordered]
    return Layout(to_device(places, device), len(ordered[-1]), most, Tree.of(parents, device))
