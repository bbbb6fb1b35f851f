"""Random contexts full of repeats, for drafters that propose what stood before, and their proposals step by step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.spec import parse_decoder
from specbench_s2d.decoding.types import Proposal, Verdict

SAMPLER = Sampler(0.0, 0, 1.0, seed=0)


def repetitive(seed: int, length: int, vocabulary: int = 4) -> list[int]:
    """Tokens drawn one by one or copied from an earlier place, so that matches of every length occur."""
    drawn, context = random.Random(seed), list[int]()
    while len(context) < length:
        if context and drawn.random() < 0.4:
            start = drawn.randrange(len(context))
            context += context[start : start + drawn.randint(1, 9)]
        else:
            context.append(drawn.randrange(vocabulary))
    return context[:length]


def drafter_of(decoder: str) -> Any:
    """The drafter of a decoder that needs no draft, built as a decoder builds it."""
    spec = parse_decoder(decoder)
    return spec.kind.drafter_class(None, spec.options)  # type: ignore[attr-defined]


def proposals(decoder: str, context: Sequence[int], prompt: int, room: int = 1_000) -> Iterator[tuple[int, Proposal]]:
    """(length of the context, proposal) as the context grows by one to three tokens a step after `prompt` tokens."""
    drafter, grow = drafter_of(decoder), random.Random(len(context))
    drafter.start(context[:prompt], SAMPLER)
    length = prompt + 1
    while length <= len(context):
        yield length, drafter.propose(list(context[:length]), room)
        drafter.commit(length, Verdict(0, 0))
        length += grow.randint(1, 3)
