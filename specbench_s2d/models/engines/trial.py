"""Whether an engine computes what the eager one does: passes of every kind, at both ends of the cache.

Drivers, compilers and memory can all stand in an engine's way, each with errors of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from specbench_s2d.errors import first_line
from specbench_s2d.models.base import Likeliest
from specbench_s2d.models.engines.base import Request
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.graph_keys import GraphKey, GraphKind, key_of
from specbench_s2d.models.transfer import to_device

_SAME, _SAME_IN_BFLOAT16 = 0.05, 0.2  # of the largest value: bfloat16 keeps three digits, layer after layer
_SPREADS, _MOST = 4, 0.5  # so many times what eager's own passes differ by, where that is more; and never above a half
_LAST_POSITIONS = 16  # what one round of passes takes up


class TrialEngine(Protocol):
    """The part of `Engine` that is tried."""

    def run(self, request: Request) -> Tensor: ...
    def read(self, request: Request) -> tuple[Tensor | None, Likeliest]: ...
    def head(self, hidden_TD: Tensor) -> Tensor: ...


@torch.inference_mode()
def why_not_trusted(tried: TrialEngine, eager: EagerEngine, length: int) -> str | None:
    """Why `tried` is not to be trusted over a cache of `length` positions, which both share; None where it is.

    Each engine runs a whole round, so that its later passes attend to what its own earlier ones left. How far apart is
    still the same: random models of 80 layers in bfloat16 differ by 8 % of the largest value where nothing is wrong; so
    do eager's own passes of one token and of five.
    """
    try:
        for start in _starts(length):
            ours, plain = (list(_round(passes, eager, start)) for passes in (tried, eager))
            allowed = min(_MOST, max(_least(eager), _SPREADS * _spread(eager, start)))
            for (what, our), (_, expected) in zip(ours, plain, strict=True):
                if why := _differs(our, expected, allowed):
                    return f"graphs {why} ({what}, after {start} positions)"
    except Exception as error:  # whatever a driver, a compiler or an allocator raises: the next engine is there
        return f"graphs failed here ({type(error).__name__}: {first_line(error)[:200]})"
    return None


def trial_keys(depth: int, lengths: tuple[int, ...]) -> set[GraphKey]:
    """The graphs that a trial captures of a model of `depth` layers, over a cache of these lengths."""
    requests = [request for start in _starts(lengths[-1]) for _, request in _requests(start, depth)]
    return {key_of(request, GraphKind.of(request), lengths) for request in requests}


def _starts(length: int) -> Iterator[int]:
    """Where rounds begin: at both ends of the cache."""
    yield from dict.fromkeys((0, max(0, length - _LAST_POSITIONS)))


def _requests(start: int, depth: int) -> Iterator[tuple[str, Request]]:
    """The passes of a round, on the host; hidden inputs stand for what the lower layers gave."""
    middle, states_TD = max(1, depth // 2), torch.empty(2, 1)

    def ids(count: int) -> Tensor:
        return torch.arange(1, 1 + count)

    yield "one token", Request(ids(1), start, 0, depth, head=True)
    yield "two tokens", Request(ids(2), start + 1, 0, depth, head=True)
    yield "five tokens", Request(ids(5), start + 3, 0, depth, head=True)
    mask_TT = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]]).bool()
    yield "a tree", Request(ids(3), start + 8, 0, depth, head=True, mask=mask_TT)
    yield "the lower layers", Request(ids(2), start + 11, 0, middle, head=False)
    yield "the head", Request(states_TD, 0, depth, depth, head=True)
    if middle < depth:
        yield "the upper layers", Request(states_TD, start + 11, middle, depth, head=False)
    yield "the likeliest", Request(ids(1), start + 13, 0, depth, head=True, best=2, rows=1)


def _round(passes: TrialEngine, eager: EagerEngine, start: int) -> Iterator[tuple[str, Tensor]]:
    """What each kind of pass gives, on from `start`."""
    device, lower_TD = eager.cache.device, torch.empty(0)
    for what, asked in _requests(start, len(eager.cache.layers)):
        if asked.inputs.is_floating_point():
            request = replace(asked, inputs=lower_TD)
        else:
            mask = None if asked.mask is None else to_device(asked.mask, device)
            request = replace(asked, inputs=to_device(asked.inputs % eager.vocabulary, device), mask=mask)
        if request.best:
            given = passes.read(request)[1].packed_2RK[0]
        elif request.from_layer == request.to_layer:
            given = passes.head(request.inputs)
        else:
            given = passes.run(request)
        if not (request.head or request.from_layer):
            lower_TD = given
        yield what, given


def _least(eager: EagerEngine) -> float:
    return _SAME_IN_BFLOAT16 if eager.cache.dtype == torch.bfloat16 else _SAME


def _spread(eager: EagerEngine, start: int) -> float:
    """How far eager's logits of five tokens, after a round from `start`, differ from those of the five one by one."""
    first, depth = start + 3, len(eager.cache.layers)
    ids_T = to_device(torch.arange(1, 6) % eager.vocabulary, eager.cache.device)
    together_TV = eager.run(Request(ids_T, first, 0, depth, head=True))
    singly = [eager.run(Request(ids_T[i : i + 1], first + i, 0, depth, head=True)) for i in range(5)]
    return _difference(torch.cat(singly), together_TV)


def _differs(ours: Tensor, expected: Tensor, allowed: float) -> str | None:
    """How a result is not the eager one; None where it is, within what is allowed. Not-a-number is never the same."""
    if not bool(torch.isfinite(ours).all()):
        return "give what is no number"
    difference = _difference(ours, expected)
    if difference <= allowed:
        return None
    return f"differ from eager by {difference:.1%} of the largest value ({allowed:.1%} is rounding)"


def _difference(ours: Tensor, expected: Tensor) -> float:
    """The largest difference, over the largest value."""
    return float((ours - expected).abs().max() / expected.abs().max())
