"""Energy of the tokens. A record's joules are its share, by new tokens, of the metered block that it belongs to
(`bench/energy_pass.py`)."""

from __future__ import annotations

from collections.abc import Iterable

from specbench_s2d.analysis.metrics.intervals import Statistic
from specbench_s2d.analysis.metrics.pairs import carrying, total
from specbench_s2d.analysis.metrics.values import Measure, quotient
from specbench_s2d.runs.record import Record


def energy_j_per_token(records: Iterable[Record]) -> Measure:
    """Energy in joules per new token, gross: counter over tokens of the row's metered blocks, weighted by the tokens
    that were timed; a pass of its own, after the timing."""
    return _per_token(records, "energy_j")


def energy_net_j_per_token(records: Iterable[Record]) -> Measure:
    """Energy in joules per new token, idle-subtracted: likewise, each block less its seconds times the idle power that
    was measured before the run."""
    return _per_token(records, "energy_net_j")


def tokens_per_joule(records: Iterable[Record]) -> Measure:
    """New tokens per joule of energy, gross: tokens over the joules of the row's metered blocks."""
    kept, note = carrying(records, "energy_j", "new_tokens")
    if note:
        return Measure(None, note)
    return quotient(total(kept, "new_tokens"), total(kept, "energy_j"), "the meter counted no joule")


def _per_token(records: Iterable[Record], field: str) -> Measure:
    kept, note = carrying(records, field, "new_tokens")
    tokens = total(kept, "new_tokens")
    if note or not tokens:
        return Measure(None, note or "no new token")
    return Measure(total(kept, field) / tokens)


def _energy(record: Record) -> tuple[float, float] | None:
    if record.energy_j is None or record.new_tokens is None:
        return None
    return record.energy_j, float(record.new_tokens)


ENERGY = Statistic(_energy)
"""Joules per new token. Blocks of a suite are metered, not questions: an interval over questions would say too much."""
