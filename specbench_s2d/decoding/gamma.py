"""Draft length: how many tokens to propose next."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from pydantic import Field

from specbench_s2d.models.base import PassKind

Gamma = Annotated[int, Field(ge=1)] | Literal["heuristic"]


class DraftLength(Protocol):
    """A schedule of draft lengths within one generation."""

    def next(self) -> int:
        """Tokens of the next proposal, at least 1."""
        ...

    def learn(self, accepted: int, drafted: int) -> None:
        """What became of the last proposal."""
        ...


class ConstantLength:
    """Always gamma."""

    def __init__(self, gamma: int) -> None:
        self._gamma = gamma

    def next(self) -> int:
        return self._gamma

    def learn(self, accepted: int, drafted: int) -> None:
        """Constant: nothing to learn."""


class HeuristicLength:
    """Start at 5; +2 after a fully accepted proposal, -1 otherwise, at least 1 (Spec-Bench's SpS rows)."""

    def __init__(self) -> None:
        self._gamma = 5

    def next(self) -> int:
        return self._gamma

    def learn(self, accepted: int, drafted: int) -> None:
        self._gamma = self._gamma + 2 if accepted == drafted else max(1, self._gamma - 1)


def longest_draft(gamma: int | str) -> int:
    """The longest draft that an option can lead to, as far as passes are prepared for it."""
    return 63 if gamma == "heuristic" else int(gamma)


def chain_passes(gamma: int | str) -> list[PassKind]:
    """The passes in which a target verifies chains of that length, the context's last token before them."""
    rows = longest_draft(gamma) + 1
    return [PassKind(rows, least=2 if gamma == "heuristic" else rows)]


def draft_length(gamma: int | str) -> DraftLength:
    """The schedule that an option names."""
    return HeuristicLength() if gamma == "heuristic" else ConstantLength(int(gamma))
