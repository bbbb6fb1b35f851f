"""Draft trees: levels, attention masks, children."""

from __future__ import annotations

import torch

from specbench_s2d.decoding.tree import children, tree_levels, tree_mask

PARENTS = [-1, -1, 0, 0, 1, 3]


def test_a_level_is_one_more_than_the_parents() -> None:
    assert tree_levels(PARENTS) == [1, 1, 2, 2, 2, 3]
    assert tree_levels([]) == []


def test_a_node_sees_the_context_its_ancestors_and_itself() -> None:
    seen = [[j for j, sees in enumerate(row) if sees] for row in tree_mask(PARENTS, torch.device("cpu")).tolist()]
    assert seen == [[0], [0, 1], [0, 2], [0, 1, 3], [0, 1, 4], [0, 2, 5], [0, 1, 4, 6]]


def test_children_keep_their_order() -> None:
    assert children(PARENTS) == {-1: [0, 1], 0: [2, 3], 1: [4], 3: [5]}
