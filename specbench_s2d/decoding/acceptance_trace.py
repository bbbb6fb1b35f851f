"""Scripts: acceptances and exits that are given, not found out, so that a decoder's work can be timed without weights.

What a scripted decoder writes means nothing; how long it takes does. Whoever runs one hands it the script
(`PairDecoder.follow`): a recorded run's or published figures' (`bench/traces.py`), or one made by hand.
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
    """`accepted`: how many tokens each step accepts; `stages`: the exit (from 0) that each drafted token leaves at.

    Both are followed in order, and from the start again when they end; what a decoder does not need may be empty.
    """

    accepted: Sequence[int] = ()
    stages: Sequence[int] = ()


class ScriptOptions(Options):
    """`acceptance`: where the script comes from. `label`: which decoder of it."""

    acceptance: Annotated[
        str, Field(description="A recorded run's folder, or published:PAPER; empty: follow() gives the script.")
    ] = ""
    label: Annotated[
        str,
        Field(
            description="Label of the recorded run, or method of the paper, a semicolon for each comma; default: the "
            "one with the same drafter."
        ),
    ] = ""


@runtime_checkable
class ScriptedPart(Protocol):
    """A drafter or verifier that does what a script says."""

    def follow(self, script: AcceptanceTrace) -> None:
        """Begin the script anew, at the start of a generation; raises `UserError` where it lacks what is needed."""
        ...


def endless(counts: Sequence[int], what: str) -> Iterator[int]:
    """The counts of a script, over and over; raises `UserError` where there are none."""
    if not counts:
        raise UserError(f"the script has no {what}; give it some, or another script.")
    return cycle(counts)
