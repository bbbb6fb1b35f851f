"""What became of the cells: how many were lost, what the audit found, and how much it could have found: where the two
best logits lie within the noise, a wrong token passes as a near-tie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from specbench_s2d.analysis.metrics.pairs import carrying
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.runs.columns import VERDICT, Records
from specbench_s2d.runs.record import Record

NOT_AUDITED = "no output was audited against AR's"
COARSE_SHARE = 0.9
"""Below this share of auditable tokens, the audit of a target is called coarse."""


def questions(records: Iterable[Record]) -> int:
    """Questions with at least one cell that finished."""
    return len(np.unique(Records.of(records).finished.questions))


def launches(records: Iterable[Record]) -> int:
    """Launches (fresh processes that each load, warm up and measure) with at least one cell that finished: what
    intervals stand on besides the questions; of one launch they say nothing of how far another would differ."""
    return len(np.unique(Records.of(records).finished.launches))


def devices(records: Iterable[Record]) -> int | None:
    """Devices on which at least one cell finished; speed-ups pair cells of one device. Empty where records do not say,
    as imported and older ones."""
    return len(list(filter(None, Records.of(records).finished.distinct("device_id")))) or None


def failed(records: Iterable[Record]) -> int:
    """Cells that failed."""
    return int(Records.of(records).equal("status", "failed").sum())


def skipped(records: Iterable[Record]) -> int:
    """Cells skipped, their prompt being too long."""
    return int(Records.of(records).equal("status", "skipped").sum())


def truncated(records: Iterable[Record]) -> int:
    """Cells whose prompt was cut to fit the context."""
    return int(Records.of(records).numbers("prompt_truncated").sum())


def verdicts(records: Iterable[Record], verdict: str) -> Measure:
    """Audited outputs of one verdict; None where none was audited."""
    finished = Records.of(records).finished
    audited = finished.take(finished.known(VERDICT))
    return Measure(int(audited.equal(VERDICT, verdict).sum())) if len(audited) else Measure(None, NOT_AUDITED)


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
    """Of the audited outputs, which are lossless and greedy; one without tie positions is left out."""
    finished = Records.of(records).finished
    audited = finished.take(finished.known(VERDICT))
    if not len(audited):
        return Coverage(0, 0, NOT_AUDITED)
    kept, _ = carrying(audited, "tie_positions", "new_tokens")
    tokens, ties = int(kept.numbers("new_tokens").sum()), int(kept.lengths("tie_positions").sum())
    lost = len(audited) - len(kept)
    why = "the release that wrote them recorded none"
    note = f"{lost} of {len(audited)} audited outputs carry no tie positions ({why})" if lost else None
    return Coverage(tokens, tokens - ties, note)


def coverage_of_rows(rows: Iterable[Mapping[str, Any]]) -> Coverage:
    """The same from rows of the summary table that share no output."""
    known = [r for r in rows if not pd.isna(r["auditable_share"])]
    tokens = sum(int(r["audited_tokens"]) for r in known)
    return Coverage(tokens, sum(round(r["auditable_share"] * int(r["audited_tokens"])) for r in known))


def audited_tokens(records: Iterable[Record]) -> Measure:
    """New tokens of the audited outputs, of which `auditable_share` is a share."""
    found = coverage(records)
    return Measure(found.tokens or None, found.note)


def auditable_share(records: Iterable[Record]) -> Measure:
    """Of the new tokens of audited outputs, the share whose two best logits lie at least the noise bound apart: there a
    wrong token would have shown. Elsewhere the two cannot be told apart, and a wrong one would pass as a near-tie."""
    found = coverage(records)
    return Measure(found.share, found.note)
