"""Runs that hypothesis makes up."""

from __future__ import annotations

from hypothesis import strategies as st

from specbench_s2d.runs.record import Record
from tests.analysis.factory import decoded

steps = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda s: (max(s), min(s), min(s) + 1)), min_size=1, max_size=6
)
seconds = st.floats(0.01, 100)


@st.composite
def runs(draw: st.DrawFn) -> list[Record]:
    """Five to eight questions of one decoder: as many as an interval needs."""
    made = draw(st.lists(st.tuples(steps, seconds, seconds), min_size=5, max_size=8))
    return [decoded("sd", i, s, decode_s=d, prefill_s=p) for i, (s, d, p) in enumerate(made)]
