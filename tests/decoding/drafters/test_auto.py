"""`s2d-auto` on a clock that only models move: it drafts as much as pays, and no more."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.auto import EXPLORE_EVERY, AutoDrafter
from specbench_s2d.decoding.types import Step
from tests.decoding.clocked import build_decoder
from tests.decoding.test_lossless import greedy_by_hand
from tests.fakes import Clock, FakeModel, Prefix

PROMPT = [1, 0]
TOKENS = 60


class Told(FakeModel):
    """A draft whose exits agree with `target` on the share of prefixes given by depth, and are sure of it or not.

    Where it disagrees it says the next id. It is confident (0.9) where it is right and not (0.4) where it is wrong.
    """

    def __init__(self, target: FakeModel, right: dict[int, float], clock: Clock, layer_s: float) -> None:
        super().__init__(seed=50, context=256, exits=tuple(right), clock=clock, layer_s=layer_s)
        self._target, self._right = target, right

    def logits_after(self, prefix: Prefix) -> Tensor:
        return self.logits_at(prefix, self.depth)

    def logits_at(self, prefix: Prefix, depth: int) -> Tensor:
        best = int(self._target.logits_after(prefix).argmax())
        right = (hash(prefix) % 1000) / 1000 < self._right[depth]
        probabilities = torch.full((self.vocabulary,), 0.1 / 4 if right else 0.6 / 4)
        probabilities[best if right else (best + 1) % self.vocabulary] = 0.9 if right else 0.4
        return probabilities.log()


def decoded(
    clock: Clock, right: dict[int, float], layer_s: float, rounds: int = 8, decoder: str = "s2d-auto"
) -> tuple[list[Step], float, PairDecoder]:
    """The last round's steps, its seconds per token (a target pass is 1), and the decoder, after learning rounds."""
    target = FakeModel(seed=1, context=256, clock=clock, layer_s=1.0)
    built = build_decoder(decoder, target, Told(target, right, clock, layer_s), clock)
    for _ in range(rounds):
        began = clock.now
        generation = built.generate(PROMPT, max_new_tokens=TOKENS)
        assert generation.ids == greedy_by_hand(FakeModel(seed=1, context=256), PROMPT, TOKENS)
    return generation.steps, (clock.now - began) / TOKENS, cast(PairDecoder, built)


def mean_drafted(steps: list[Step]) -> float:
    return sum(len(step.drafted) for step in steps) / len(steps)


def test_a_cheap_draft_that_is_right_is_used_to_the_full(clock: Clock) -> None:
    steps, seconds, _ = decoded(clock, {1: 1.0, 2: 1.0}, layer_s=0.01)
    assert mean_drafted(steps) > 7
    assert seconds < 0.2
    assert {depth for step in steps for depth in step.exit_depths} == {1}


def test_a_draft_as_dear_as_the_target_is_left_alone(clock: Clock) -> None:
    steps, seconds, _ = decoded(clock, {1: 0.5, 2: 0.6}, layer_s=1.0)
    assert mean_drafted(steps) < 0.1
    assert seconds < 1.15


def test_a_draft_that_is_always_wrong_is_soon_left_alone(clock: Clock) -> None:
    steps, _, built = decoded(clock, {1: 0.0, 2: 0.0}, layer_s=0.2, rounds=12)
    assert sum(len(step.drafted) for step in steps) <= 1
    assert steps[0].draft_layers > 0  # the first step of an answer reads a token all the same
    assert sum(step.draft_layers > 0 for step in steps) <= 1 + TOKENS / EXPLORE_EVERY
    assert cast(AutoDrafter, built.drafter).facts()["tokens_per_s"] == pytest.approx(1.0, rel=0.1)


def test_it_goes_deeper_where_that_is_what_makes_tokens_right(clock: Clock) -> None:
    steps, _, _ = decoded(clock, {1: 0.3, 2: 1.0}, layer_s=0.02)
    by_depth = [depth for step in steps for depth in step.exit_depths]
    assert by_depth.count(2) > 0.5 * len(by_depth)
    assert by_depth.count(1) > 0  # and leaves where the first exit is sure


def test_it_beats_every_fixed_exit_and_length_where_confidence_tells(clock: Clock) -> None:
    _, best, _ = decoded(clock, {1: 0.5, 2: 0.7}, layer_s=0.05, rounds=12)
    for exit_depth in (1, 2):
        for gamma in (1, 2, 3, 5):
            _, fixed, _ = decoded(
                clock, {1: 0.5, 2: 0.7}, 0.05, rounds=2, decoder=f"sd:exit={exit_depth},gamma={gamma}"
            )
            assert best < fixed * 0.99


def test_costs_are_measured_once(clock: Clock) -> None:
    target = FakeModel(seed=1, context=256, clock=clock, layer_s=1.0)
    built = build_decoder("s2d-auto", target, FakeModel(exits=(1, 2), context=256, clock=clock, layer_s=0.1), clock)
    built.generate(PROMPT, max_new_tokens=2)
    passes = target.passes
    assert passes > 50
    built.generate(PROMPT, max_new_tokens=2)
    assert target.passes - passes < 5


def test_a_prompt_that_fills_the_context_leaves_room_to_measure(clock: Clock) -> None:
    target = FakeModel(seed=1, context=40, clock=clock, layer_s=1.0)
    built = build_decoder("s2d-auto", target, FakeModel(exits=(1, 2), context=40, clock=clock, layer_s=0.1), clock)
    assert len(built.generate([1] * 38, max_new_tokens=2).ids) == 2


def test_facts_name_costs_calibration_and_rate(clock: Clock) -> None:
    _, _, built = decoded(clock, {1: 1.0, 2: 1.0}, layer_s=0.01)
    facts = built.facts()
    assert facts["exits"] == [1, 2]
    assert facts["costs"]["verify_s"][0] == pytest.approx(1.0, rel=0.1)
    assert facts["costs"]["warm_s"] == pytest.approx([0.01, 0.01], rel=0.2)
    assert sum(row["accepted"] for row in facts["calibration"]) > 20
