"""Medusa's trees laid out for the heads at hand."""

from __future__ import annotations

import torch

from specbench_s2d.decoding.medusa_layout import lay_out

CPU = torch.device("cpu")


def test_a_layout_is_cut_to_tokens_heads_and_ids_and_goes_level_by_level() -> None:
    nodes = ((0,), (0, 0), (1,), (0, 1), (0, 0, 0), (1, 0), (2,))
    laid = lay_out(nodes, 6, 2, 10, CPU)
    assert laid is not None and (laid.levels, laid.ranks) == (2, 3)
    # (0), (1), (2), then (0, 0), (0, 1), (1, 0); place = head * 3 + rank
    assert laid.places_G.tolist() == [0, 1, 2, 3, 4, 3] and laid.tree.parents_N.tolist() == [-1, -1, -1, 0, 0, 1]
    few = lay_out(nodes, 3, 4, 1, CPU)
    assert few is not None and few.places_G.tolist() == [0, 1, 2] and few.tree.parents_N.tolist() == [-1, 0, 1]
    assert lay_out(nodes, 0, 4, 10, CPU) is None
