"""Whether an engine computes what the eager one does: passes of every kind, at both ends of the cache.

Drivers, compilers and memory can all stand in an engine's way, each with errors of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from specbench_s2d.errors import first_line
from specbench_s2d.models.base import Likeliest
from specbench_s2d.models.passes.base import Request
from specbench_s2d.models.passes.eager import EagerPasses
from specbench_s2d.models.sending import send

_SAME = 0.05  # of the largest value: bfloat16 keeps three digits, layer after layer
_LAST_POSITIONS = 16  # what one round of passes takes up


class Tried(Protocol):
    """The part of `Passes` that is tried."""

    def run(self, request: Request) -> Tensor: ...
    def read(self, request: Request) -> tuple[Tensor | None, Likeliest]: ...
    def head(self, hidden_TD: Tensor) -> Tensor: ...


@torch.inference_mode()
def what_stands_against(tried: Tried, eager: EagerPasses, length: int) -> str | None:
    """Why `tried` is not to be trusted over a cache of `length` positions, which both share; None where it is.

    Each engine runs a whole round, so that its later passes attend to what its own earlier ones left.
    """
    try:
        for start in dict.fromkeys((0, max(0, length - _LAST_POSITIONS))):
            ours, plain = (list(_round(passes, eager, start)) for passes in (tried, eager))
            for (what, our), (_, expected) in zip(ours, plain, strict=True):
                if why := _differs(our, expected):
                    return f"graphs {why} ({what}, after {start} positions)"
    except Exception as error:  # whatever a driver, a compiler or an allocator raises: the next engine is there
        return f"graphs failed here ({type(error).__name__}: {first_line(error)[:200]})"
    return None


def _round(passes: Tried, eager: EagerPasses, start: int) -> Iterator[tuple[str, Tensor]]:
    """What each kind of pass gives, on from `start`."""
    depth, device, vocabulary = len(eager.cache.layers), eager.cache.device, eager.vocabulary
    middle = max(1, depth // 2)

    def ids(count: int) -> Tensor:
        return send([(1 + i) % vocabulary for i in range(count)], device)

    yield "one token", passes.run(Request(ids(1), start, 0, depth, head=True))
    yield "two tokens", passes.run(Request(ids(2), start + 1, 0, depth, head=True))
    yield "five tokens", passes.run(Request(ids(5), start + 3, 0, depth, head=True))
    mask_TT = send([[1, 0, 0], [1, 1, 0], [1, 0, 1]], device).bool()
    yield "a tree", passes.run(Request(ids(3), start + 8, 0, depth, head=True, mask=mask_TT))
    states_TD = passes.run(Request(ids(2), start + 11, 0, middle, head=False))
    yield "the lower layers", states_TD
    yield "the head", passes.head(states_TD)
    if middle < depth:
        yield "the upper layers", passes.run(Request(states_TD, start + 11, middle, depth, head=False))
    _, best = passes.read(Request(ids(1), start + 13, 0, depth, head=True, best=2, rows=1))
    yield "the likeliest", best.packed_2RK[0]


def _differs(ours: Tensor, expected: Tensor) -> str | None:
    """How a result is not the eager one; None where it is, within rounding. Not-a-number is never the same."""
    difference = float((ours - expected).abs().max() / expected.abs().max())
    if not bool(torch.isfinite(ours).all()):
        return "give what is no number"
    return None if difference <= _SAME else f"differ from eager by {difference:.1%} of the largest value"
