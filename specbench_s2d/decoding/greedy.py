"""When sampling settings leave nothing to chance."""

from __future__ import annotations

LARGEST_VOCABULARY = 2**24
"""Ids below it are exact as float32, as which they travel to the host."""


def is_greedy(temperature: float, top_k: int = 0, top_p: float = 1.0) -> bool:
    """Whether the likeliest token is taken for certain: at temperature 0, of the one best token, or where `top_p` is
    below the least that the likeliest of any vocabulary can have. A low temperature alone leaves a chance."""
    return temperature == 0 or top_k == 1 or top_p * LARGEST_VOCABULARY < 1
