"""The fake models: every seed, exit and prefix has logits of its own."""

from __future__ import annotations

from itertools import combinations

import torch

from tests.fakes import FakeModel


def test_exits_of_a_nested_fake_differ_from_each_other() -> None:
    model = FakeModel(exits=(1, 2, 3, 4))
    logits = [model.logits_at((1, 2), depth) for depth in model.exits]
    assert not any(torch.equal(one, other) for one, other in combinations(logits, 2))
    assert torch.equal(model.logits_at((1, 2), 4), model.logits_after((1, 2)))


def test_fakes_differ_by_seed_and_by_prefix() -> None:
    prefixes = [(1, 2), (2, 1), (1,), (12,), (1, 2, 0), (0, 1, 2)]
    logits = [FakeModel(seed=seed).logits_after(prefix) for seed in (-2, -1, 0, 1) for prefix in prefixes]
    assert not any(torch.equal(one, other) for one, other in combinations(logits, 2))
