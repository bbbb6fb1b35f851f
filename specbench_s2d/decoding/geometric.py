"""Acceptances by one rate: every drafted token is accepted with chance alpha, until the first that is not.

Source: Leviathan et al. 2023 (arXiv 2211.17192), equation 1: a step of gamma drafts emits (1 - alpha^(gamma+1)) /
(1 - alpha) tokens in the mean, the target's own included.
"""

from __future__ import annotations

import numpy as np

from specbench_s2d.errors import UserError

PAPERS_GAMMA = 5
"""The draft length at which published mean accepted tokens are read: where Spec-Bench's schedule starts."""
_STEPS = 60  # of the bisection: more than a double has digits


def mean_emitted(alpha: float, gamma: int) -> float:
    """Tokens per step: 1 + alpha + … + alpha^gamma."""
    return float(sum(alpha**i for i in range(gamma + 1)))


def rate_of(mat: float, gamma: int = PAPERS_GAMMA) -> float:
    """The alpha in [0, 1) whose `mean_emitted` is `mat`; raises `UserError` for one that no rate gives."""
    if not 1 <= mat < gamma + 1:
        raise UserError(f"{mat:g} mean accepted tokens: steps of {gamma} drafts emit from 1 to less than {gamma + 1}.")
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_emitted(middle, gamma) < mat else (low, middle)
    return low


def drawn(alpha: float, steps: int, seed: int) -> list[int]:
    """How many drafts each step accepts where it may draft without end: a proposal's length cuts it."""
    accepted: list[int] = (np.random.default_rng(seed).geometric(1 - alpha, steps) - 1).tolist()
    return accepted
