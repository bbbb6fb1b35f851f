"""`gamma=auto` of drafters whose tokens cost nothing: lengths by measured costs and learnt acceptance."""

from __future__ import annotations

import random

import pytest

from specbench_s2d.decoding.adaptive_length import (
    EXPLORE_EVERY,
    LEARNING_STEPS,
    LONGEST_AUTO,
    AdaptiveLength,
    AutoLength,
    AutoTree,
    FoundTree,
)
from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.decoding.types import Drafted, Verdict
from tests.decoding.test_lossless import greedy_by_hand
from tests.fakes import Clock, FakeModel


class Wide(FakeModel):
    """A pass takes a second, and `per_row_s` for each position beyond the first."""

    per_row_s = 0.0

    def extend(self, inputs, *args, **more):  # type: ignore[no-untyped-def]
        self._clock.now += 1.0 + self.per_row_s * (inputs.shape[1] - 1)
        return super().extend(inputs, *args, **more)


def ready(per_row_s: float) -> tuple[AutoLength, Clock]:
    clock = Clock()
    target = Wide(clock=clock)
    target.per_row_s = per_row_s
    length = AutoLength(ways=2, now=clock)
    length.prepare(target, [1, 2, 3])
    length.start()
    return length, clock


def steps(
    length: AutoLength, clock: Clock, acceptance: float, count: int, seed: int = 0, per_row_s: float = 0.0
) -> list[int]:
    """Proposals of 10 found tokens, each accepted with a probability; how long each was."""
    drawn, lengths = random.Random(seed), list[int]()
    for _ in range(count):
        proposed = len(length.cut([1] * 10, way=0))
        accepted = 0
        while accepted < proposed and drawn.random() < acceptance:
            accepted += 1
        clock.now += 1.0 + per_row_s * proposed
        follows = 1 if accepted == proposed and drawn.random() < acceptance else 2
        length.learn(Verdict(accepted, follows))
        lengths.append(proposed)
    return lengths


def test_costs_are_measured_by_width() -> None:
    length, _ = ready(per_row_s=0.25)
    assert length.measured.costs.verify_s == pytest.approx([1.0 + 0.25 * row for row in range(LONGEST_AUTO + 1)])


def test_where_wider_passes_cost_nothing_everything_is_proposed() -> None:
    length, clock = ready(per_row_s=0.0)
    assert steps(length, clock, acceptance=0.3, count=200)[-50:] == [10] * 50


def test_where_nothing_is_accepted_and_width_costs_little_is_proposed() -> None:
    length, clock = ready(per_row_s=0.3)
    lengths = steps(length, clock, acceptance=0.02, count=300, per_row_s=0.3)
    assert lengths[:LEARNING_STEPS] == [10] * LEARNING_STEPS
    late = lengths[150:]
    assert late.count(0) > 0.9 * len(late)
    assert late.count(10) == pytest.approx(len(late) / (EXPLORE_EVERY + 1), abs=1.5), "one is tried now and then"


@pytest.mark.parametrize("acceptance", [0.5, 0.8])
def test_the_length_is_about_the_best_constant_one(acceptance: float) -> None:
    """The rate by a constant length: (1 - a^(n+1)) / (1 - a) tokens for 1 + 0.1 n seconds."""
    length, clock = ready(per_row_s=0.1)
    lengths = steps(length, clock, acceptance, count=1_500, per_row_s=0.1)[-300:]

    def rate(n: int) -> float:
        return sum(acceptance**i for i in range(n + 1)) / (1 + 0.1 * n)

    best = max(range(11), key=rate)
    usual = max(set(lengths), key=lengths.count)
    assert rate(usual) > 0.97 * rate(best)


def test_best_count_is_the_sum_of_the_definition() -> None:
    length, _ = ready(per_row_s=0.2)
    shares, survivals, survival = [0.9, 0.9, 0.1, 0.1], list[float](), 1.0
    for n, share in enumerate(shares, start=1):
        survival *= length.calibration.acceptance(0, n, share)
        survivals.append(survival)
    assert length.survivals(0, shares) == pytest.approx(survivals)
    values = [sum(survivals[:n]) - 0.2 * n for n in range(5)]  # the rate so far is that of the target alone, 1 a second
    assert length.measured.best_count(survivals) == values.index(max(values)) == 2


def test_a_constant_proposes_all_and_measures_nothing() -> None:
    constant = AdaptiveLength.of(3, ways=1)
    assert (constant.longest, constant.cut([4, 5], way=0), constant.facts()) == (3, [4, 5], {})


@pytest.mark.parametrize("decoder", ["lookup:gamma=auto", "suffix:gamma=auto", "recycling:tokens=auto"])
@pytest.mark.parametrize("seed", range(3))
def test_ids_equal_token_by_token_argmax(decoder: str, seed: int) -> None:
    target = FakeModel(6, seed=seed, context=300)
    built = build_decoder(decoder, target)
    for _ in range(2):
        assert built.generate([1, 0, 2], max_new_tokens=60).ids == greedy_by_hand(target, [1, 0, 2], 60)
    assert set(built.facts()) == {"costs", "calibration", "tokens_per_s"}


def tree_of_two_levels() -> FoundTree:
    """Three children of the context, and two of the first of them."""
    return FoundTree(ids=[10, 11, 12, 20, 21], parents=[-1, -1, -1, 0, 0], places=[0, 1, 2, 3, 4])


def test_a_tree_keeps_the_nodes_that_pay_and_learns_those_that_were_cut() -> None:
    clock = Clock()
    target = Wide(clock=clock)
    target.per_row_s = 0.2
    auto = AutoTree([0.5] * 5, now=clock)
    auto.measured.prepare(target, [1, 2, 3])
    auto.measured.start()
    found = tree_of_two_levels()
    for _ in range(LEARNING_STEPS):
        assert auto.cut(found) == found
        clock.now += 2.0
        drafted = Drafted(found.ids, parents=found.parents)
        auto.learn(Verdict(2, 99, path=[0, 4], drafted=drafted))  # the target writes 10, 21, then 99
    kept = auto.cut(found)
    assert (kept.ids, kept.parents, kept.places) == ([10, 21], [-1, 0], [0, 4])
    clock.now += 1.4
    auto.learn(Verdict(0, 12, path=[], drafted=Drafted(kept.ids, parents=kept.parents)))
    rows = {row["node"]: (row["seen"], row["accepted"]) for row in auto.facts()["calibration"]}
    assert rows == {0: (25, 24), 1: (25, 0), 2: (25, 1), 3: (24, 0), 4: (24, 24)}


def test_a_part_of_a_tree_numbers_its_nodes_anew() -> None:
    part = tree_of_two_levels().only([0, 2, 4])
    assert (part.ids, part.parents, part.places) == ([10, 12, 21], [-1, -1, 0], [0, 2, 4])
