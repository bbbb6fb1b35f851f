"""Settings that leave nothing to chance decode as temperature 0 does."""

from __future__ import annotations

import pytest
import torch

from specbench_s2d.decoding.greedy import LARGEST_VOCABULARY, is_greedy
from specbench_s2d.decoding.sampling import Sampler, probabilities
from specbench_s2d.decoding.spec import build_decoder
from tests.fakes import FakeModel


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((0.0, 0, 1.0), True),
        ((0.0, 5, 0.5), True),
        ((1.0, 1, 1.0), True),
        ((1.0, 0, 1e-8), True),
        ((1.0, 2, 1.0), False),
        ((1.0, 0, 1e-6), False),  # of a million equally likely tokens two would stay
        ((1e-6, 0, 1.0), False),  # two logits may lie as close
    ],
)
def test_only_what_is_certain_counts(settings: tuple[float, int, float], expected: bool) -> None:
    assert is_greedy(*settings) is expected
    assert Sampler(*settings, seed=0).greedy is expected


def test_a_top_p_that_counts_keeps_one_token_of_equally_likely_ones() -> None:
    probs_TV = probabilities(torch.zeros(1, 4096), 1.0, top_p=0.9 / LARGEST_VOCABULARY)
    assert int((probs_TV > 0).sum()) == 1


@pytest.mark.parametrize("decoder", ["ar", "sd", "sd+joint"])
@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-8}])
@pytest.mark.parametrize("seed", [0, 1])
def test_decoders_give_what_they_give_at_temperature_0(decoder: str, settings: dict[str, float], seed: int) -> None:
    name = {"sd+joint": "chain+joint"}.get(decoder, decoder)
    built = build_decoder(name, FakeModel(), None if name == "ar" else FakeModel(seed=1))
    greedy = built.generate([1, 2, 3], max_new_tokens=30)
    same = built.generate([1, 2, 3], max_new_tokens=30, temperature=1.5, seed=seed, **settings)  # type: ignore[arg-type]
    assert same.ids == greedy.ids
    assert [step.accepted for step in same.steps] == [step.accepted for step in greedy.steps]
