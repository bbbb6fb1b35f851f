"""Acceptances by a single rate: each drafted token is accepted with probability alpha, up to the first rejection.

Source: Leviathan et al. 2023 (arXiv 2211.17192), equation 1: a step of gamma drafted tokens emits
(1 - alpha^(gamma+1)) / (1 - alpha) tokens on average, the target's own included.
"""

from __future__ import annotations

import numpy as np

from specbench_s2d.errors import UserError

PAPERS_GAMMA = 5
"""The draft length assumed for published mean accepted tokens: the start of Spec-Bench's schedule."""
_STEPS = 60  # of the bisection, more than the bits of a double


def mean_emitted(alpha: float, gamma: int) -> float:
    """Mean tokens per step: 1 + alpha + … + alpha^gamma."""
    return float(sum(alpha**i for i in range(gamma + 1)))


def rate_of(mat: float, gamma: int = PAPERS_GAMMA) -> float:
    """The alpha in [0, 1) whose `mean_emitted` is `mat`; raises `UserError` where there is none."""
    if not 1 <= mat < gamma + 1:
        raise UserError(f"{mat:g} mean accepted tokens: steps of {gamma} drafts emit from 1 to less than {gamma + 1}.")
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_emitted(middle, gamma) < mat else (low, middle)
    return low


def drawn(alpha: float, steps: int, seed: int) -> list[int]:
    """Accepted tokens per step for drafts of unlimited length; the verifier cuts them at the proposal's length."""
    accepted: list[int] = (np.random.default_rng(seed).geometric(1 - alpha, steps) - 1).tolist()
    return accepted
