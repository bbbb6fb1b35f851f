"""The trial of an engine: it must compute what the eager engine computes, for every kind of pass, at both ends of the
cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from specbench_s2d.errors import in_one_line
from specbench_s2d.models.engines.base import Engine, Request
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.graph_keys import GraphKey, GraphKind, key_of
from specbench_s2d.models.transfer import to_device

_ALLOWED, _ALLOWED_IN_BFLOAT16 = 0.05, 0.2  # difference over the largest value; bfloat16 rounds to three digits
_SPREADS, _MOST = 4, 0.5  # or so many times the difference between eager's own passes, but at most a half
_ROUND_POSITIONS = 16  # positions that one round of passes takes up


@torch.inference_mode()
def why_not_trusted(engine: Engine, eager: EagerEngine, length: int) -> str | None:
    """Why an engine is not trusted over a cache of `length` positions, which it shares with `eager`; None where it is.

    Each engine runs all passes of a round, so that its later passes attend to the cache of its own earlier ones. The
    allowed difference accounts for rounding: in bfloat16, random models of 80 layers differ by 8 % of the largest value
    without any fault, and so do eager passes over one token and over five.
    """
    try:
        for start in _starts(length):
            ours, plain = (list(_round(one, eager, start)) for one in (engine, eager))
            allowed = min(_MOST, max(_base_allowance(eager), _SPREADS * _spread(eager, start)))
            for (what, our), (_, expected) in zip(ours, plain, strict=True):
                if why := _differs(our, expected, allowed):
                    return f"graphs {why} ({what}, after {start} positions)"
    except Exception as error:  # drivers, compilers and allocators raise errors of many kinds
        return f"graphs failed here ({in_one_line(error, 200, kind=True)})"
    return None


def trial_keys(depth: int, lengths: tuple[int, ...]) -> set[GraphKey]:
    """The graphs that the trial of a model of `depth` layers captures; `lengths`: the cache's buckets."""
    requests = [request for start in _starts(lengths[-1]) for _, request in _requests(start, depth)]
    return {key_of(request, GraphKind.of(request), lengths) for request in requests}


def _starts(length: int) -> Iterator[int]:
    """The first positions of the rounds: at both ends of the cache."""
    yield from dict.fromkeys((0, max(0, length - _ROUND_POSITIONS)))


def _requests(start: int, depth: int) -> Iterator[tuple[str, Request]]:
    """The passes of a round, on the host; `_round` replaces hidden inputs by the output of the lower layers."""
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


def _round(engine: Engine, eager: EagerEngine, start: int) -> Iterator[tuple[str, Tensor]]:
    """The output of each kind of pass, from position `start` on."""
    device, lower_TD = eager.cache.device, torch.empty(0)
    for what, asked in _requests(start, len(eager.cache.layers)):
        if asked.inputs.is_floating_point():
            request = replace(asked, inputs=lower_TD)
        else:
            mask = None if asked.mask is None else to_device(asked.mask, device)
            ids_T = to_device(asked.inputs % eager.vocabulary, device)
            request = replace(asked, inputs=ids_T, mask=mask, states=eager.states_beside(ids_T))
        if request.best:
            output = engine.read(request)[1].packed_2RK[0]
        elif request.from_layer == request.to_layer:
            output = engine.head(request.inputs)
        else:
            output = engine.run(request)
        if not (request.head or request.from_layer):
            lower_TD = output
        yield what, output


def _base_allowance(eager: EagerEngine) -> float:
    return _ALLOWED_IN_BFLOAT16 if eager.cache.dtype == torch.bfloat16 else _ALLOWED


def _spread(eager: EagerEngine, start: int) -> float:
    """The difference of eager logits between one pass over five tokens and five passes, after a round from `start`."""
    first, depth = start + 3, len(eager.cache.layers)
    ids_T = to_device(torch.arange(1, 6) % eager.vocabulary, eager.cache.device)
    together = Request(ids_T, first, 0, depth, head=True, states=eager.states_beside(ids_T))
    together_TV, singly = eager.run(together), list[Tensor]()
    for i in range(5):
        states = None if together.states is None else together.states[i : i + 1]
        singly.append(eager.run(replace(together, inputs=ids_T[i : i + 1], start=first + i, states=states)))
    return _difference(torch.cat(singly), together_TV)


def _differs(ours: Tensor, expected: Tensor, allowed: float) -> str | None:
    """How a result differs from eager's; None within the allowed difference. Values that are not finite always
    differ."""
    if not bool(torch.isfinite(ours).all()):
        return "give values that are not finite"
    difference = _difference(ours, expected)
    if difference <= allowed:
        return None
    apart, rounding = (f"{100 * share:.1f} %" for share in (difference, allowed))
    return f"differ from eager by {apart} of the largest value ({rounding} is allowed as rounding)"


def _difference(ours: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((ours - expected).abs().max() / expected.abs().max())
