"""Energy of the tokens. A record's joules are those of its timed window, or its share, by new tokens, of the metered
block that it belongs to (`bench/energy_pass.py`)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from specbench_s2d.analysis.metrics.intervals import Statistic, Summands, stacked
from specbench_s2d.analysis.metrics.pairs import carrying, total
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.measure.energy.block import MIN_BLOCK_S
from specbench_s2d.measure.energy.windows import SHORTEST_WINDOW_S
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import Record

SHORT_SHARE = 0.05
"""The most of a row's metered time that windows too short for the counter may take; they are left out."""
MOST_DISAGREEMENT = 0.10
"""Energy counter and sampled power differ by no more than this, or one of them is wrong."""
IN_DOUBT = f"energy counter and sampled power differ by more than {100 * MOST_DISAGREEMENT:.0f} %"


def energy_j_per_token(records: Iterable[Record]) -> Measure:
    """Energy in joules per new token, gross: by the energy counter, read at both ends of the row's timed windows where
    these add up to 5 s (those shorter than 0.2 s left out); with `--energy-blocks` that of metered blocks, weighted by
    the tokens that were timed."""
    rows = Records.of(records)
    found = _per_token(rows, "energy_j")
    doubt = IN_DOUBT if found.value is not None and is_in_doubt(disagreement(rows).value) else None
    return Measure(found.value, ", ".join(filter(None, (found.note, doubt))) or None)


def energy_net_j_per_token(records: Iterable[Record]) -> Measure:
    """Energy in joules per new token, idle-subtracted: likewise, less the seconds times the idle power that was
    measured before the run."""
    return _per_token(records, "energy_net_j")


def tokens_per_joule(records: Iterable[Record]) -> Measure:
    """New tokens per joule of energy, gross: one over `energy_j_per_token`."""
    found = energy_j_per_token(records)
    return Measure(None if found.value is None else 1 / found.value, found.note)


def disagreement(records: Iterable[Record]) -> Measure:
    """Energy by integrating the sampled power, over energy by the counter, less one: beyond ±0.10 the row's energy is
    in doubt."""
    finished = Records.of(records).finished
    metered = finished.take(finished.known("energy_j"))
    both, note = carrying(metered, "energy_trace_j")
    counted_j = total(both, "energy_j")
    if not 0 < counted_j < math.inf:
        return Measure(None, note if len(metered) else None)
    return Measure(total(both, "energy_trace_j") / counted_j - 1, note)


def is_in_doubt(found: float | None) -> bool:
    """Whether counter and sampled power differ by more than they may."""
    return found is not None and not abs(found) <= MOST_DISAGREEMENT


def _per_token(records: Iterable[Record], field: str) -> Measure:
    finished = Records.of(records).finished
    windows = finished.take(finished.known("energy_s"))
    is_short = ~finished.known("energy_j") & (finished.numbers("energy_s") < SHORTEST_WINDOW_S)
    short = finished.take(is_short)
    kept, missing = carrying(finished if is_short.all() else finished.take(~is_short), field, "new_tokens")
    reason = _too_short(windows, short) or missing or _impossible(kept, field)
    tokens = total(kept, "new_tokens")
    if reason or not tokens:
        return Measure(None, reason or "no new token")
    left_out = f"{len(short)} of {len(windows)} windows left out, shorter than {SHORTEST_WINDOW_S:g} s"
    return Measure(total(kept, field) / tokens, left_out if len(short) else None)


def _too_short(windows: Records, short: Records) -> str | None:
    """Why the row's windows are too short to give its energy; None where they are not, or are none."""
    seconds, short_s = total(windows, "energy_s"), total(short, "energy_s")
    if len(windows) and seconds < MIN_BLOCK_S:
        return f"its timed windows add up to {seconds:.1f} s; energy is given from {MIN_BLOCK_S:g} s on"
    if short_s > SHORT_SHARE * seconds:
        return (
            f"{len(short)} of its {len(windows)} timed windows are shorter than {SHORTEST_WINDOW_S:g} s; "
            "--energy-blocks meters them"
        )
    return None


def _impossible(kept: Records, field: str) -> str | None:
    """Why these joules cannot be true; None where they can. Older versions kept what a faulty meter said."""
    joules = kept.numbers(field)
    odd = int(np.sum(~((joules > 0) & (joules < math.inf))))
    return f"{odd} of {len(kept)} cells carry no {field} above 0" if odd else None


def _energy(records: Records) -> Summands:
    return stacked(records.numbers("energy_j"), records.numbers("new_tokens"))


ENERGY = Statistic[Record](_energy)
"""Joules per new token. Blocks of a suite are metered, not questions: an interval over questions would say too much."""
