"""How much the divergence audit could have caught: where the two best logits lie within the noise, a wrong token passes
as a near-tie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from specbench_s2d.analysis.metrics.columns import Measure, defines
from specbench_s2d.analysis.metrics.stats import carrying
from specbench_s2d.runs.record import Record

NOT_AUDITED = "no output was audited against AR's"
COARSE_SHARE = 0.9
"""Below this share of auditable tokens, the audit of a target is called coarse."""


@dataclass(frozen=True)
class Coverage:
    """New tokens of audited outputs, and those of them that are `auditable`: their margin is not below the noise bound.

    `note`: why nothing is known, or what is left out.
    """

    tokens: int
    auditable: int
    note: str | None = None

    @property
    def share(self) -> float | None:
        return self.auditable / self.tokens if self.tokens else None

    @property
    def is_coarse(self) -> bool:
        """Whether so few tokens are auditable that the audit says little."""
        return self.share is not None and self.share < COARSE_SHARE


def coverage(records: Iterable[Record]) -> Coverage:
    """Of the audited outputs among `records`, which are lossless and greedy; one without tie positions is left out."""
    audited = [r for r in records if r.status == "ok" and r.divergence is not None]
    if not audited:
        return Coverage(0, 0, NOT_AUDITED)
    kept, _ = carrying(audited, "tie_positions", "new_tokens")
    tokens, ties = sum(r.new_tokens or 0 for r in kept), sum(len(r.tie_positions or []) for r in kept)
    lost = len(audited) - len(kept)
    why = "the release that wrote them recorded none"
    note = f"{lost} of {len(audited)} audited outputs carry no tie positions ({why})" if lost else None
    return Coverage(tokens, tokens - ties, note)


def coverage_of_rows(rows: Iterable[Mapping[str, Any]]) -> Coverage:
    """The same from rows of the tidy table that share no output."""
    known = [r for r in rows if not _absent(r["auditable_share"])]
    tokens = sum(int(r["audited_tokens"]) for r in known)
    return Coverage(tokens, sum(round(r["auditable_share"] * int(r["audited_tokens"])) for r in known))


@defines("audited_tokens")
def audited_tokens(records: Iterable[Record]) -> Measure:
    """New tokens of the audited outputs, of which `auditable_share` is a share."""
    found = coverage(records)
    return Measure(found.tokens or None, found.note)


@defines("auditable_share")
def auditable_share(records: Iterable[Record]) -> Measure:
    """Of the new tokens of audited outputs, the share whose two best logits lie at least the noise bound apart: there a
    wrong token would have shown. Elsewhere the two cannot be told apart, and a wrong one would pass as a near-tie."""
    found = coverage(records)
    return Measure(found.share, found.note)


def _absent(value: Any) -> bool:
    return value is None or math.isnan(value)
