"""What is read around work, and what becomes of a meter that fails at it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from specbench_s2d.measure.energy.reading import read_during
from tests.measure.energy.replay import Recording, ReplayMeter, VirtualClock


def a_meter(**methods: Any) -> ReplayMeter:
    """A recorded meter with these methods in place of its own."""
    kind = type("Replaced", (ReplayMeter,), methods)
    made: ReplayMeter = kind(Recording([0, 9], [5.0, 5.0], [0, 45]), VirtualClock(tick_s=1.0))
    return made


@pytest.mark.parametrize("method", ["start", "stop"])
def test_a_meter_that_exits_loses_no_work(method: str) -> None:
    done, reading = read_during(a_meter(**{method: lambda self: sys.exit(3)}), lambda: "done")
    assert (done, reading.counter_j, reading.reason) == ("done", None, "SystemExit: 3")


@pytest.mark.parametrize("given", [None, 3.0])
def test_a_meter_that_gives_no_reading_loses_no_work(given: Any) -> None:
    done, reading = read_during(a_meter(stop=lambda self: given), lambda: "done")
    why = f"the meter gave {type(given).__name__}, which is no Reading"
    assert (done, reading.counter_j, reading.reason, reading.trace_reason) == ("done", None, why, why)
