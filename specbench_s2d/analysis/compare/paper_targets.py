"""Which of a paper's targets each of ours is compared with.

A target goes with the paper's of the same name. Where no name matches, targets go by size: the run's, the fastest
under AR being the smallest, with the paper's by their billions of parameters, from the smallest to the largest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from specbench_s2d.analysis.metrics.speed import rate_e2e
from specbench_s2d.runs.record import BASELINE, Record


def match_targets(records: Sequence[Record], theirs: Sequence[str]) -> dict[str, str]:
    """Our targets to the paper's, by name where any matches, else by size; ours beyond theirs stay out."""
    ours = list(dict.fromkeys(r.target for r in records))
    by_name = {o: t for o in ours for t in sorted(theirs, key=len) if _same_name(o, t)}
    if by_name or not theirs:
        return by_name
    rates = {o: rate_e2e(r for r in records if r.target == o and r.label == BASELINE).value or 0.0 for o in ours}
    small_first = sorted(ours, key=lambda target: -rates[target])
    sizes = sorted(theirs, key=_billions)
    last = min(len(ours), len(sizes)) - 1
    places = [round(i * (len(sizes) - 1) / last) if last else 0 for i in range(last + 1)]
    return {target: sizes[place] for target, place in zip(small_first, places, strict=False)}


def how_matched(matched: Mapping[str, str]) -> str:
    """By what `match_targets` went."""
    return "by name" if any(_same_name(o, t) for o, t in matched.items()) else "by size, smallest first"


def _same_name(ours: str, theirs: str) -> bool:
    return _plain(ours).startswith(_plain(theirs))


def _plain(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _billions(target: str) -> float:
    found = re.search(r"(\d+(?:\.\d+)?)b\b", target.lower())
    return float(found[1]) if found else 0.0
