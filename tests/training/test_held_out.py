"""What a draft head is worth on held-out chats, on choices worked by hand."""

from __future__ import annotations

import numpy as np
import torch

from specbench_s2d.training.data import Encoded
from specbench_s2d.training.held_out import acceptance_by_position

CPU = torch.device("cpu")


def chat(ids: list[int], answer: list[bool]) -> Encoded:
    return Encoded("", np.array(ids, dtype=np.int32), np.array(answer))


def choices(ids_1T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The target always chooses 1; token 1 is drafted right at even places, token 2 at those that hold id 9."""
    ids_T = ids_1T[0]
    places = torch.arange(len(ids_T))
    first = torch.where(places % 2 == 0, 1, 0).masked_fill(places < 2, -1)
    second = torch.where(ids_T == 9, 1, 0).masked_fill(places < 3, -1)
    return torch.stack((first, second)), torch.ones_like(ids_T)


def test_shares_are_of_answer_tokens_that_a_proposal_reaches() -> None:
    held_out = {
        "qa": [chat([5, 5, 5, 9, 5, 9], [True] * 6), chat([9, 9, 9, 9], [False, False, True, True])],
        "math": [chat([5, 5, 9, 5, 5], [False] * 4 + [True]), chat([1, 2], [True, True])],
        "rag": [chat([1, 2, 3], [False] * 3)],
    }
    found = acceptance_by_position(choices, held_out, CPU)
    # qa, token 1: places 2 and 4 of 2-5, then 2 of 2-3; token 2: 3 and 5 of 3-5, then 3. math: place 4 alone.
    assert found == {
        "1": {"qa": 3 / 6, "math": 1.0, "all": 4 / 7},
        "2": {"qa": 3 / 4, "math": 0.0, "all": 3 / 5},
    }


def test_what_is_not_an_answer_is_not_measured() -> None:
    assert acceptance_by_position(choices, {"rag": [chat([1, 2, 3], [False] * 3)]}, CPU) == {"1": {}, "2": {}}
