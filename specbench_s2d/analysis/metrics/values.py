"""The two forms in which a value is reported: a number or an interval, each missing with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A number, or None; `note` says why it is missing, or what it leaves out."""

    value: float | None
    note: str | None = None


@dataclass(frozen=True)
class Interval:
    """Both ends of an interval, or None with the reason; and the questions that it stands on."""

    low: float | None
    high: float | None
    note: str | None = None
    questions: int = 0


def quotient(numerator: float, denominator: float, nothing: str, note: str | None = None) -> Measure:
    """A quotient; None, with the reason `nothing` (or `note`), where the denominator is zero."""
    return Measure(numerator / denominator, note) if denominator > 0 else Measure(None, note or nothing)
