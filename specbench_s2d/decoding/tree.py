"""Draft trees: parents, levels and attention masks. Shapes: `N` nodes, `M` = N + 1.

A tree is the list of its nodes' parents (-1: the context), every node after its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specbench_s2d.models.transfer import to_device


@dataclass(frozen=True)
class Tree:
    """A proposed tree on the device; the host learns its shape with the verdict.

    `parents_N`: the parent of each node (-1: the context). `mask_MM`: bool, which of the last context token and the
    nodes each of them attends to. `level_exits`: the exit depth that the draft read each level at, from the first;
    empty for a plain draft. `cached_rows_N`: the row of each node among the positions that the draft has run since the
    context, -1 for a node that it has not run; None where the drafter keeps track itself.
    """

    parents_N: Tensor
    mask_MM: Tensor
    level_exits: tuple[int, ...] = ()
    cached_rows_N: Tensor | None = None

    @classmethod
    def of(cls, parents: Sequence[int], device: torch.device, level_exits: tuple[int, ...] = ()) -> Tree:
        """The tree with these parents; raises `ValueError` where they are none (`check_parents`)."""
        if fault := check_parents(parents):
            raise ValueError(fault)
        return cls(to_device(list(parents), device), tree_mask(parents, device), level_exits)


def check_parents(parents: Sequence[int]) -> str | None:
    """What is wrong with the parents of a tree's nodes, each -1 (the context) or an earlier node; None for a tree."""
    for node, parent in enumerate(parents):
        if not -1 <= parent < node:
            return f"node {node} has parent {parent}; a parent is -1 or an earlier node"
    return None


def tree_levels(parents: Sequence[int]) -> list[int]:
    """The level of each node, from 1."""
    levels: list[int] = []
    for parent in parents:
        levels.append(1 if parent < 0 else levels[parent] + 1)
    return levels


def tree_mask(parents: Sequence[int], device: torch.device) -> Tensor:
    """Attention mask, bool (M, M), of the last context token and the nodes: a node sees that token, its ancestors and
    itself."""
    seen = np.eye(len(parents) + 1, dtype=bool)
    for node, parent in enumerate(parents):
        seen[node + 1] |= seen[parent + 1]
    return to_device(torch.from_numpy(seen), device)


def children(parents: Sequence[int]) -> dict[int, list[int]]:
    """The children of each node in order, by the node's index (-1: the context)."""
    found: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        found.setdefault(parent, []).append(node)
    return found


def path_to(node: int, parents: Sequence[int]) -> list[int]:
    """The nodes from the root to `node`, both included; none for the context (-1)."""
    path: list[int] = []
    while node >= 0:
        path.append(node)
        node = parents[node]
    return path[::-1]
