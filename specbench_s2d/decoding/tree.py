"""What a draft tree is: parents, levels, and who sees whom. Shapes: `N` nodes.

A tree is the list of its nodes' parents (-1: the context), every node after its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specbench_s2d.models.transfer import send_tensor, to_device


@dataclass(frozen=True)
class Tree:
    """A proposed tree on the device, whose shape the host may not know yet.

    `parents_N`: each node's parent (-1: the context). `mask_MM`, M = N + 1: who sees whom among the last context token
    and the nodes. `level_exits`: the exit depth that the draft read each level at, from the
    first; empty for a plain draft. `ran_N`: which of the positions that the draft has run since the context is the
    node's own, -1 for one that it has not run; None where the drafter knows.
    """

    parents_N: Tensor
    mask_MM: Tensor
    level_exits: tuple[int, ...] = ()
    ran_N: Tensor | None = None

    @classmethod
    def of(cls, parents: Sequence[int], device: torch.device, level_exits: tuple[int, ...] = ()) -> Tree:
        """The tree of these parents."""
        return cls(to_device(list(parents), device), tree_mask(parents, 1, device), level_exits)


def tree_levels(parents: Sequence[int]) -> list[int]:
    """Each node's level, from 1."""
    levels: list[int] = []
    for parent in parents:
        levels.append(1 if parent < 0 else levels[parent] + 1)
    return levels


def tree_mask(parents: Sequence[int], before: int, device: torch.device) -> Tensor:
    """Who sees whom among `before` context positions and the N nodes after them: bool (before + N, before + N).

    The context is causal; a node sees all of it, its ancestors and itself.
    """
    size = before + len(parents)
    seen = np.tri(size, size, dtype=bool)
    for node, parent in enumerate(parents):
        row = before + node
        seen[row, before:row] = seen[before + parent, before:row] if parent >= 0 else False
    return send_tensor(torch.from_numpy(seen), device)


def children(parents: Sequence[int]) -> dict[int, list[int]]:
    """Each node's children in order, by its index (-1: the context)."""
    found: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        found.setdefault(parent, []).append(node)
    return found


def path_to(node: int, parents: Sequence[int]) -> list[int]:
    """The nodes from the root to `node`, itself included; none for the context (-1)."""
    path: list[int] = []
    while node >= 0:
        path.append(node)
        node = parents[node]
    return path[::-1]
