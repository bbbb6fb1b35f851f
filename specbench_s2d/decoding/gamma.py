"""The draft length gamma: a constant, or Spec-Bench's heuristic schedule."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, Field, ValidationInfo

from specbench_s2d.models.base import PassKind

Gamma = Annotated[int, Field(ge=1)] | Literal["heuristic"]


class DraftLength(Protocol):
    """A schedule of draft lengths within one generation."""

    def next(self) -> int:
        """Tokens of the next proposal, at least 1."""
        ...

    def learn(self, accepted: int, drafted: int) -> None:
        """Take note of how many of the last proposal's tokens were accepted."""
        ...


class ConstantLength:
    """The same gamma at every step."""

    def __init__(self, gamma: int) -> None:
        self._gamma = gamma

    def next(self) -> int:
        return self._gamma

    def learn(self, accepted: int, drafted: int) -> None:
        """A constant does not change."""


class HeuristicLength:
    """Start at 5; +2 after a fully accepted proposal, -1 otherwise, at least 1 (the schedule of Spec-Bench's SpS,
    speculative sampling)."""

    def __init__(self) -> None:
        self._gamma = 5

    def next(self) -> int:
        return self._gamma

    def learn(self, accepted: int, drafted: int) -> None:
        self._gamma = self._gamma + 2 if accepted == drafted else max(1, self._gamma - 1)


def longest_draft(gamma: int | str) -> int:
    """The longest draft that passes are prepared for."""
    return 63 if gamma == "heuristic" else int(gamma)


def chain_passes(gamma: int | str) -> list[PassKind]:
    """The target passes that verify chains of up to gamma tokens, after the context's last token."""
    rows = longest_draft(gamma) + 1
    return [PassKind(rows, least=2 if gamma == "heuristic" else rows)]


def draft_length(gamma: int | str) -> DraftLength:
    """The schedule of the option `gamma`."""
    return HeuristicLength() if gamma == "heuristic" else ConstantLength(int(gamma))


def _in_place_of_a_chain(value: Any, info: ValidationInfo) -> Any:
    if info.data.get("gamma") is not None:
        raise ValueError("it is of a tree, and gamma=N asks for a chain; give one of them")
    return value


OF_A_TREE = AfterValidator(_in_place_of_a_chain)
"""An option of a tree's, refused beside `gamma`, which asks for a chain."""
