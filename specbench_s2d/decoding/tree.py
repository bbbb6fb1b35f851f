"""What a draft tree is: parents, levels, and who sees whom. Shapes: `N` nodes.

A tree is the list of its nodes' parents (-1: the context), every node after its parent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from specbench_s2d.models.sending import send_tensor


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
