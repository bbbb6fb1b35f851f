"""Pass costs: every pass is there with a value per round, on fakes whose layers cost what is said."""

from __future__ import annotations

import pytest

from specbench_s2d.errors import UserError
from specbench_s2d.measure.pass_costs import pass_costs
from specbench_s2d.models.pass_timer import LEAST_S
from tests.fakes import Clock, FakeModel


def test_a_nested_draft_costs_its_stages_layers() -> None:
    clock = Clock()
    target = FakeModel(clock=clock, layer_s=7.0)
    draft = FakeModel(seed=1, exits=(2, 3, 6), clock=clock, layer_s=1.0)
    costs = pass_costs(target, draft, range(1, 4), context=10, rounds=5, now=clock)
    assert costs.ar.median_s == 7 and [cost.median_s for cost in costs.verify.values()] == [7, 7, 7]
    assert [(s.depth, s.cold.median_s, s.warm.median_s) for s in costs.stages] == [(2, 2, 2), (3, 1, 1), (6, 3, 3)]
    assert [s.layers.median_s for s in costs.stages] == [2, 1, 3]
    assert [s.check.median_s for s in costs.stages] == [LEAST_S] * 3  # which takes no time by this clock
    assert [(c.depth, c.cold.median_s, c.warm.median_s) for c in costs.chains] == [(2, 2, 2), (3, 3, 3), (6, 6, 6)]
    assert {len(cost.rounds_s) for cost in (costs.ar, *costs.verify.values(), costs.stages[0].cold)} == {5}


def test_a_plain_draft_is_read_at_its_last_layer() -> None:
    clock = Clock()
    draft = FakeModel(seed=1, clock=clock, layer_s=2.0)
    costs = pass_costs(FakeModel(), draft, [1, 2], context=10, rounds=2, now=clock)
    assert [(c.depth, c.cold.median_s, c.warm.median_s) for c in costs.chains] == [(1, 2, 2)]
    assert costs.stages == ()


def test_the_caches_are_left_empty() -> None:
    target, draft = FakeModel(), FakeModel(seed=1, exits=(1, 2))
    pass_costs(target, draft, [1, 2], context=10, rounds=1)
    assert target.length == draft.layer_length(0) == 0


def test_a_context_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="--context 60: fake-0 and fake-1 hold 64 positions; give 1 to 53"):
        pass_costs(FakeModel(), FakeModel(seed=1), range(1, 12), context=60)
