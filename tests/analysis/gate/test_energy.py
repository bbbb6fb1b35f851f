"""Energy is not judged; a meter that contradicts itself is said, in either run."""

from __future__ import annotations

from typing import Any

import pytest

from specbench_s2d.analysis.gate.judge import judge
from specbench_s2d.analysis.gate.verdict import Tolerances
from specbench_s2d.analysis.metrics.energy import IN_DOUBT
from specbench_s2d.runs.record import Record
from tests.analysis.gate.runs import baseline, changed, found, judged, only


def metered(trace: float) -> Any:
    def change(record: Record) -> dict[str, Any]:
        joules = 2.0 * (record.new_tokens or 0)
        return {"energy_j": joules, "energy_trace_j": trace * joules}

    return change


@pytest.mark.parametrize("trace", [0.8, 1.3])
def test_counter_and_trace_that_differ_are_said_and_fail_nothing(trace: float) -> None:
    judgement = judged(changed(metered(trace), "sd"))
    check = found(judgement, "energy", "sd")
    assert (check.verdict, check.ours, check.why) == ("not judged", f"{100 * (trace - 1):+.0f} %", IN_DOUBT)
    assert judgement.exit_code == 0 and only(judgement, "not judged").count(("energy", "sd")) == 1
    other = judge(baseline(), changed(metered(trace), "sd"), Tolerances(), "auto")
    assert found(other, "energy", "sd").baseline == f"{100 * (trace - 1):+.0f} %"


def test_nothing_is_said_of_energy_that_agrees_or_is_not_there() -> None:
    for run in (baseline(), changed(metered(1.05), "sd")):
        assert not [check for check in judged(run).checks if check.rule == "energy"]
