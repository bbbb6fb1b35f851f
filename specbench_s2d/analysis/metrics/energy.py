"""Energy per token: the one home of its definitions, as pure functions of records.

A record's joules are its share, by new tokens, of the metered block that it belongs to (`bench/energy_pass.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from specbench_s2d.analysis.metrics import stats
from specbench_s2d.analysis.metrics.columns import Measure, defines
from specbench_s2d.runs.record import Record


@defines("energy_j_per_token")
def energy_j_per_token(records: Iterable[Record]) -> Measure:
    """energy in joules per new token, gross: counter over tokens of the row's metered blocks, weighted by the tokens
    that were timed; a pass of its own, after the timing"""
    return _per_token(records, "energy_j")


@defines("energy_net_j_per_token")
def energy_net_j_per_token(records: Iterable[Record]) -> Measure:
    """energy in joules per new token, idle-subtracted: likewise, each block less its seconds times the idle power that
    was measured before the run"""
    return _per_token(records, "energy_net_j")


def _per_token(records: Iterable[Record], field: str) -> Measure:
    kept, note = stats.carrying(records, field, "new_tokens")
    tokens = stats.total(kept, "new_tokens")
    if note or not tokens:
        return Measure(None, note or "no new token")
    return Measure(stats.total(kept, field) / tokens)
