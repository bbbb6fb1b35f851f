"""The tables that the pictures are drawn from, together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from specbench_s2d.analysis.tables import summary as tidy
from specbench_s2d.analysis.tables import sweeps
from specbench_s2d.runs.record import Record


@dataclass(frozen=True)
class FigureTables:
    """`summary`: the tidy table; the others hold rows of it, or further figures of the same records."""

    summary: pd.DataFrame
    positions: pd.DataFrame
    exits: pd.DataFrame
    thresholds: pd.DataFrame
    by_k: pd.DataFrame
    by_tau: pd.DataFrame
    equal_gamma: pd.DataFrame

    @classmethod
    def of(cls, records: Sequence[Record], summary: pd.DataFrame) -> FigureTables:
        """All tables of the records that `summary` was made from."""
        return cls(
            summary=summary,
            positions=tidy.acceptance_by_position(records),
            exits=tidy.exit_depths(records),
            thresholds=tidy.threshold_ablation(records, summary),
            by_k=sweeps.sweep(records, summary, "k"),
            by_tau=sweeps.sweep(records, summary, "tau"),
            equal_gamma=sweeps.equal_gamma(records, summary),
        )
