"""How wide a decoder's passes can be, by its options: an upper bound, for the memory plan."""

from __future__ import annotations

from dataclasses import dataclass

from specbench_s2d.decoding.loop import PROPOSED
from specbench_s2d.decoding.types import Options


@dataclass(frozen=True)
class Widths:
    """Most rows of a decoder's passes: `chain`, the target's over a chain; `tree`, the target's over a tree, its root
    included; `search`, of whoever runs the beams or grows the tree, a level at a time. 0 where there are none."""

    chain: int = 1
    tree: int = 0
    search: int = 0

    @classmethod
    def of(cls, options: Options) -> Widths:
        """By the options that all drafters spell alike: `gamma`, `tokens` and `topk`, `beams` and `candidates`."""
        gamma, tokens = getattr(options, "gamma", 0), getattr(options, "tokens", 0)
        longest = gamma if isinstance(gamma, int) else PROPOSED
        beams, candidates = getattr(options, "beams", 0), getattr(options, "candidates", 1)
        tree = 1 + tokens if tokens else 1 + candidates * longest if candidates > 1 else 0
        return cls(1 + longest, tree, max(beams, getattr(options, "topk", 0)))
