"""Acceptance traces: recorded or published acceptances that a decoder follows, so that it is timed without real
weights.

The output of a decoder that follows a trace is meaningless; its timing is not. The trace is handed over with
`PairDecoder.follow`: from a recorded run or a paper (`bench/traces.py`), or written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field

from specbench_s2d.decoding.types import Options
from specbench_s2d.errors import UserError


@dataclass(frozen=True)
class AcceptanceTrace:
    """`accepted`: tokens accepted at each step. `stages`: the exit, counted from 0, of each drafted token.

    Both are repeated from the start when they end; either may be empty where the decoder does not use it.
    """

    accepted: Sequence[int] = ()
    stages: Sequence[int] = ()


class TraceOptions(Options):
    """`acceptance`: the source of the trace. `label`: the decoder of that source to follow."""

    acceptance: Annotated[
        str, Field(description="A recorded run's folder, or published:PAPER; empty: follow() gives the trace.")
    ] = ""
    label: Annotated[
        str,
        Field(
            description="Label of the recorded run, or method of the paper, a semicolon for each comma; default: the "
            "one with the same drafter."
        ),
    ] = ""


@runtime_checkable
class TraceFollower(Protocol):
    """A drafter or verifier whose exits or acceptances come from a trace."""

    def follow(self, trace: AcceptanceTrace) -> None:
        """Start the trace from its beginning, once per generation; `UserError` where it lacks a needed list."""
        ...


def repeat_forever(counts: Sequence[int], what: str) -> Iterator[int]:
    """The counts in an endless cycle; raises `UserError` for an empty list."""
    if not counts:
        raise UserError(f"the acceptance trace has no {what}; add them, or follow another trace.")
    return cycle(counts)
