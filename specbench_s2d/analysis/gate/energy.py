"""Energy in the gate: it is not judged, and where the meter contradicts itself that is said."""

from __future__ import annotations

from collections.abc import Iterator

from specbench_s2d.analysis.gate.cells import Row
from specbench_s2d.analysis.gate.verdict import Check
from specbench_s2d.analysis.metrics.energy import IN_DOUBT, disagreement, is_in_doubt


def doubts(row: Row) -> Iterator[Check]:
    """A check, not judged, where energy counter and sampled power of a row differ in either run; nothing elsewhere."""
    ours, base = disagreement(row.ours).value, disagreement(row.base).value
    if is_in_doubt(ours) or is_in_doubt(base):
        yield Check("energy", "not judged", row.target, row.label, _percent(ours), _percent(base), IN_DOUBT)


def _percent(found: float | None) -> str:
    return "" if found is None else f"{100 * found:+.0f} %"
