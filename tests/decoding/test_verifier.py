"""The token rule, case by case; that its output follows the target's law is shown in test_lossless.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.decoding.verifiers.token import TokenVerifier

RULE = TokenVerifier(TokenVerifier.Options())


class Fixed(Sampler):
    """A sampler whose uniforms are given and whose draws take the likeliest token; it keeps what it drew from."""

    def __init__(self, *uniforms: float) -> None:
        super().__init__(1.0, 0, 1.0, seed=0)
        self._given = uniforms
        self.drawn_from: list[float] = []

    def uniforms(self, count: int, device: torch.device) -> Tensor:
        return torch.tensor(self._given[:count])

    def draw(self, probs_V: Tensor) -> Tensor:
        self.drawn_from = probs_V.tolist()
        return probs_V.argmax(dim=-1, keepdim=True)


def proposal(ids: list[int], q: list[list[float]] | None = None) -> Proposal:
    return Proposal(torch.tensor(ids, dtype=torch.long), None if q is None else torch.tensor(q))


def logits(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).log()


def best_are(*ids: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(ids), 5).float()


@pytest.mark.parametrize(
    ("drafted", "best", "verdict"),
    [
        ([], [3], Verdict(0, 3)),
        ([1, 2, 3], [1, 2, 3, 4], Verdict(3, 4)),  # all accepted, and the bonus token
        ([1, 2, 3], [1, 2, 0, 4], Verdict(2, 0)),
        ([1, 2, 3], [0, 2, 3, 4], Verdict(0, 0)),  # later agreement does not count
        ([1, 2, 3], [1, 0, 3, 4], Verdict(1, 0)),
    ],
)
def test_greedy_accepts_the_longest_prefix_of_best_tokens(
    drafted: list[int], best: list[int], verdict: Verdict
) -> None:
    assert RULE.judge(proposal(drafted), best_are(*best), Sampler(0.0, 0, 1.0, 0)) == verdict


P = [0.5, 0.3, 0.2]
Q = [0.2, 0.6, 0.2]
BONUS = [0.1, 0.1, 0.8]
CASES: dict[str, tuple[list[int], Any, list[list[float]], list[float], Verdict, list[float]]] = {
    # drafted, q, p, uniforms, verdict, what the next token was drawn from
    "p above q is always accepted": ([0], [Q], [P, BONUS], [0.999], Verdict(1, 2), BONUS),
    "below p / q = 0.5: accepted": ([1], [Q], [P, BONUS], [0.49], Verdict(1, 2), BONUS),
    "above p / q = 0.5: rejected": ([1], [Q], [P, BONUS], [0.51], Verdict(0, 0), [1.0, 0.0, 0.0]),
    "the first rejection ends it": ([1, 0, 0], [Q] * 3, [P] * 4, [0.1, 0.9999, 0.1], Verdict(3, 0), P),
    "a rejection in the middle": ([0, 1, 0], [Q] * 3, [P] * 4, [0.9, 0.9, 0.1], Verdict(1, 0), [1.0, 0.0, 0.0]),
    "a token that p never writes": (
        [2],
        [[0.2, 0.2, 0.6]],
        [[0.5, 0.5, 0.0], P],
        [0.0],
        Verdict(0, 0),
        [0.5, 0.5, 0.0],
    ),
    "greedy draft, below p: accepted": ([0], None, [P, BONUS], [0.49], Verdict(1, 2), BONUS),
    "greedy draft, above p: rejected": ([0], None, [P, BONUS], [0.51], Verdict(0, 1), [0.0, 0.6, 0.4]),
    "nothing drafted": ([], None, [P], [], Verdict(0, 0), P),
}


@pytest.mark.parametrize("case", CASES)
def test_sampling_accepts_with_p_over_q_and_draws_what_is_left(case: str) -> None:
    drafted, q, p, uniforms, verdict, left = CASES[case]
    sampler = Fixed(*uniforms)
    assert RULE.judge(proposal(drafted, q), logits(*p), sampler) == verdict
    assert sampler.drawn_from == pytest.approx(left, abs=1e-6)


def test_p_is_taken_after_the_runs_temperature() -> None:
    """At temperature 0.5, p = (0.5, 0.3, 0.2) becomes (25, 9, 4) / 38."""
    sampler = Fixed(0.3)
    sampler.temperature = 0.5
    assert RULE.judge(proposal([1]), logits(P, BONUS), sampler).accepted == 0  # 0.3 > 9 / 38
    assert sampler.drawn_from == pytest.approx([25 / 29, 0.0, 4 / 29])


def test_the_rule_is_lossless() -> None:
    assert not TokenVerifier.lossy
