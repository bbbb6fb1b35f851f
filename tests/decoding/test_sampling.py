"""Choosing a token: temperature, top-k and top-p by hand and against transformers; residuals; draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from specbench_s2d.decoding.sampling import Sampler, probabilities, residual


def logits_of(*probs: float) -> Tensor:
    """(1, V) logits whose softmax is `probs`."""
    return torch.tensor([probs]).log()


def by_hand(probs: list[float], top_k: int, top_p: float) -> list[float]:
    """Top-k (ties at the k-th kept), then top-p (the crossing token kept), in plain Python."""
    if top_k:
        kth = sorted(probs, reverse=True)[min(top_k, len(probs)) - 1]
        probs = [p if p >= kth else 0.0 for p in probs]
        probs = [p / sum(probs) for p in probs]
    kept, mass = [0.0] * len(probs), 0.0
    for token in sorted(range(len(probs)), key=lambda i: -probs[i]):
        if mass < top_p:
            kept[token] = probs[token]
        mass += probs[token]
    return [p / sum(kept) for p in kept]


def test_temperature_divides_the_logits() -> None:
    logits_TV = torch.tensor([[0.0, math.log(2.0)], [0.0, 0.0]])
    torch.testing.assert_close(probabilities(logits_TV, 1.0), torch.tensor([[1 / 3, 2 / 3], [0.5, 0.5]]))
    torch.testing.assert_close(probabilities(logits_TV, 0.5), torch.tensor([[1 / 5, 4 / 5], [0.5, 0.5]]))


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [
        (0, [0.4, 0.3, 0.2, 0.1]),
        (1, [1.0, 0.0, 0.0, 0.0]),
        (2, [4 / 7, 3 / 7, 0.0, 0.0]),
        (4, [0.4, 0.3, 0.2, 0.1]),
        (9, [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_top_k_keeps_the_k_best(top_k: int, expected: list[float]) -> None:
    actual = probabilities(logits_of(0.4, 0.3, 0.2, 0.1), 1.0, top_k)
    torch.testing.assert_close(actual, torch.tensor([expected]))


def test_ties_at_the_kth_are_all_kept() -> None:
    actual = probabilities(torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]]), 1.0, top_k=2)
    assert (actual[0] > 0).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.05, 1),  # the best always stays
        (0.45, 1),
        (0.55, 2),  # the token that crosses is kept
        (0.75, 2),
        (0.85, 3),
        (0.95, 4),
        (1.0, 4),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, kept: int) -> None:
    probs = [0.1, 0.5, 0.1, 0.3]
    actual = probabilities(logits_of(*probs), 1.0, 0, top_p)[0]
    assert int((actual > 0).sum()) == kept
    best = sorted(probs, reverse=True)[:kept]
    assert float(actual.max()) == pytest.approx(0.5 / sum(best))
    assert float(actual.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("top_k", [0, 1, 3, 8, 50])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_random_logits_equal_plain_python_and_transformers(top_k: int, top_p: float, temperature: float) -> None:
    logits_TV = torch.randn(20, 30, generator=torch.Generator().manual_seed(3)) * 2
    actual_TV = probabilities(logits_TV, temperature, top_k, top_p)
    plain = (logits_TV.double() / temperature).softmax(-1).tolist()
    expected_TV = torch.tensor([by_hand(row, top_k, top_p) for row in plain])
    torch.testing.assert_close(actual_TV, expected_TV, atol=1e-5, rtol=1e-4)
    no_ids = torch.zeros(20, 1, dtype=torch.long)
    warped_TV = TemperatureLogitsWarper(temperature)(no_ids, logits_TV)
    if top_k:
        warped_TV = TopKLogitsWarper(top_k)(no_ids, warped_TV)
    if top_p < 1:
        warped_TV = TopPLogitsWarper(top_p)(no_ids, warped_TV)
    torch.testing.assert_close(actual_TV, warped_TV.softmax(-1), atol=1e-5, rtol=1e-4)


def test_half_precision_logits_become_float32_probabilities() -> None:
    assert probabilities(torch.randn(2, 5, dtype=torch.bfloat16), 1.0).dtype == torch.float32


def test_the_residual_is_what_p_has_above_q() -> None:
    p_V, q_V = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.2, 0.6, 0.1, 0.1])
    torch.testing.assert_close(residual(p_V, q_V), torch.tensor([0.75, 0.0, 0.25, 0.0]))


def test_the_residual_of_a_one_hot_q_is_p_without_that_token() -> None:
    p_V, q_V = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(residual(p_V, q_V), torch.tensor([5 / 7, 0.0, 2 / 7]))


def test_the_residual_of_equals_is_p() -> None:
    p_V = torch.tensor([0.25, 0.75])
    assert torch.equal(residual(p_V, p_V.clone()), p_V)


def test_a_greedy_sampler_takes_the_best() -> None:
    sampler = Sampler(0.0, 0, 1.0, seed=0)
    assert sampler.greedy
    assert sampler.pick(torch.tensor([0.1, 3.0, 2.9])) == 1


def test_draws_follow_the_distribution() -> None:
    """5,000 draws: each share within 4.5 standard errors (false-alarm rate below 1 in 10,000)."""
    sampler, p_V = Sampler(1.0, 0, 1.0, seed=1), torch.tensor([0.5, 0.3, 0.2, 0.0])
    counts = torch.bincount(torch.cat([sampler.draw(p_V) for _ in range(5_000)]), minlength=4)
    for count, p in zip(counts.tolist(), p_V.tolist(), strict=True):
        assert abs(count - 5_000 * p) <= 4.5 * math.sqrt(5_000 * p * (1 - p))


def test_a_seed_fixes_draws_and_uniforms() -> None:
    one, same, other = (Sampler(1.0, 0, 1.0, seed) for seed in (5, 5, 6))
    cpu = torch.device("cpu")
    first = one.uniforms(8, cpu)
    assert torch.equal(first, same.uniforms(8, cpu))
    assert not torch.equal(first, other.uniforms(8, cpu))
    assert ((first >= 0) & (first < 1)).all()
