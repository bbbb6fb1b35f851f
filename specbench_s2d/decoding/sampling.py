"""Choosing a token: temperature, top-k, top-p, draws. Shapes: `T` rows, `V` vocabulary."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.decoding.greedy import is_greedy
from specbench_s2d.errors import UserError

_LEAST_TEMPERATURE = 1e-30  # below it quotients overflow; at it nothing but equal logits is left to chance


def check_settings(temperature: Any, top_k: Any, top_p: Any, seed: Any) -> None:
    """Raise `UserError` for settings that are no numbers, or out of range."""
    whole = isinstance(top_k, Integral) and isinstance(seed, Integral)
    numbers = whole and isinstance(temperature, Real) and isinstance(top_p, Real)
    if not (numbers and 0 <= temperature < math.inf and top_k >= 0 and 0 < top_p <= 1):
        raise UserError(
            f"temperature {temperature!r}, top_k {top_k!r}, top_p {top_p!r}, seed {seed!r}: temperature and top_k are "
            "at least 0 (and finite), top_p in (0, 1]; top_k and seed are whole numbers."
        )
    if not -(2**63) <= seed < 2**64:
        raise UserError(f"seed {seed}: give a whole number of at most 64 bits.")


def probabilities(logits_TV: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Next-token distributions (T, V), float32, after temperature, then top-k, then top-p.

    `temperature` > 0. `top_k` 0 keeps all; ties at the k-th logit are all kept. `top_p` keeps the smallest set of
    best tokens whose probability reaches it (the token that crosses it included), as transformers does.
    """
    scaled_TV = logits_TV.float() / max(temperature, _LEAST_TEMPERATURE)
    if 0 < top_k < scaled_TV.shape[-1]:
        kth_T1 = scaled_TV.topk(top_k, dim=-1).values[..., -1:]
        scaled_TV = scaled_TV.masked_fill(scaled_TV < kth_T1, float("-inf"))
    probs_TV = scaled_TV.softmax(-1)
    if top_p < 1.0:
        sorted_TV, order_TV = probs_TV.sort(dim=-1, descending=True)
        before_TV = sorted_TV.cumsum(-1) - sorted_TV
        dropped_TV = torch.zeros_like(before_TV, dtype=torch.bool).scatter(-1, order_TV, before_TV >= top_p)
        probs_TV = probs_TV.masked_fill(dropped_TV, 0.0)
        probs_TV = probs_TV / probs_TV.sum(-1, keepdim=True)
    return probs_TV


def residual(p_V: Tensor, q_V: Tensor) -> Tensor:
    """normalise(max(0, p - q)), the distribution to draw from after a rejection (Leviathan et al. 2023, section
    2.3)."""
    left_V = (p_V - q_V).clamp_min(0)
    total = left_V.sum()
    # Where p = q to the last bit, rounding may still reject; the residual is then p itself.
    return torch.where(total > 0, left_V / total, p_V)


class Sampler:
    """The run's sampling settings: greedy where `is_greedy` says so, otherwise draws from a seeded generator."""

    def __init__(
        self, temperature: float, top_k: int, top_p: float, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.device = torch.device(device)
        self._generator = torch.Generator(device=device)
        self._generator.manual_seed(seed)

    @property
    def greedy(self) -> bool:
        return is_greedy(self.temperature, self.top_k, self.top_p)

    def probs(self, logits_TV: Tensor) -> Tensor:
        """The distributions (T, V) at the run's settings; only where these are not greedy."""
        assert not self.greedy
        return probabilities(logits_TV, self.temperature, self.top_k, self.top_p)

    def draw(self, probs_V: Tensor) -> Tensor:
        """One id (1,) from a distribution (V,)."""
        return self._draw_rows(probs_V[None])

    def uniforms(self, count: int, device: torch.device) -> Tensor:
        """`count` numbers in [0, 1)."""
        return torch.rand(count, generator=self._generator, device=device)

    def pick_rows(self, logits_TV: Tensor) -> Tensor:
        """The next token ids (T,) after T positions, on the device: argmaxes where greedy, draws otherwise."""
        if self.greedy:
            return logits_TV.argmax(-1)
        return self._draw_rows(self.probs(logits_TV))

    def _draw_rows(self, probs_TV: Tensor) -> Tensor:
        """One id (T,) from each row: the smallest of exponential variates whose rates are the ids' probabilities.

        This is `torch.multinomial`'s method for a single draw, but does not wait for the device, as that does before
        torch 2.13.
        """
        return (probs_TV / torch.empty_like(probs_TV).exponential_(1, generator=self._generator)).argmax(-1)

    def pick(self, logits_V: Tensor) -> int:
        """The next token id: argmax where greedy, a draw otherwise."""
        chosen = logits_V.argmax() if self.greedy else self.draw(self.probs(logits_V[None])[0])
        return int(chosen)
