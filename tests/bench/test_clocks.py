"""Clocks that stand still or go back: a cell fails or a value is left out, and nothing is negative or divided by 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from specbench_s2d.bench import phase_timer
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.bench.plan import Cell
from specbench_s2d.bench.prompts import Prompt
from specbench_s2d.bench.runner import execute
from specbench_s2d.bench.session import Session
from specbench_s2d.decoding import loop
from specbench_s2d.decoding.clock import HostClock
from specbench_s2d.decoding.costs import OnlineCosts, RunRate
from specbench_s2d.errors import UserError
from specbench_s2d.measure.bandwidth import ReadRate
from specbench_s2d.measure.energy.meter import Reading, Sample
from specbench_s2d.measure.energy.reading import checked
from specbench_s2d.measure.energy.windows import window_fields
from specbench_s2d.models.pass_timer import PassTimer
from specbench_s2d.runs.folder import read_manifest, read_records
from tests.bench.sessions import with_methods
from tests.tiny_run import tiny_plan


def times(*seconds: float) -> Callable[[], float]:
    """A clock that shows these, one after another."""
    return iter(seconds).__next__


def test_a_cell_during_which_the_clock_goes_back_fails(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan(tiny_models, ["ar", "lookup"], draft=[], max_new_tokens=6)
    real = loop.perf_counter

    def step_back(self: Session, cell: Cell, prompt: Prompt) -> dict[str, Any]:
        if cell.label == "lookup":
            seen = iter((1000.0, 990.0, 980.0))
            monkeypatch.setattr(loop, "perf_counter", lambda: next(seen))
        try:
            return Session.decode(self, cell, prompt)
        finally:
            monkeypatch.setattr(loop, "perf_counter", real)

    execute(plan, tmp_path / "run", open_session=with_methods(decode=step_back))
    by_label = {label: [r for r in read_records(tmp_path / "run") if r.label == label] for label in ("ar", "lookup")}
    assert {r.status for r in by_label["ar"]} == {"ok"} and {r.status for r in by_label["lookup"]} == {"failed"}
    assert all("prefill_s -10.0; it is a number from 0" in str(r.error) for r in by_label["lookup"])
    for record in by_label["ar"]:
        assert min(value for name, value in record if name.endswith("_s") and value is not None) >= 0
    assert min(read_manifest(tmp_path / "run")["harness"].values()) >= 0


def test_a_timed_pass_takes_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = PassTimer(torch.device("cpu"), times(5, 4, 4, 4, 4, 6))
    for _ in range(3):
        timer.time("pass", lambda: None)
    assert timer.rounds_s("pass") == (1e-9, 1e-9, 2)


def test_a_round_of_a_clock_that_went_back_says_nothing_of_the_read_rate() -> None:
    rate = ReadRate("cpu", 4096, 1, lambda device: 2**20, HostClock(times(0, 1, 5, 3, 7, 7)))
    rate.measure(3)
    assert rate.facts()["rounds"] == 1 and rate.bytes_per_s > 0
    with pytest.raises(UserError, match="the clock stood still or went back in 2 rounds"):
        ReadRate("cpu", 4096, 1, lambda device: 2**20, HostClock(times(1, 1, 2, 0))).measure(2)


def test_costs_learn_nothing_from_such_a_step() -> None:
    costs = OnlineCosts([1.0], [1.0], [1.0], [0.0])
    before = costs.facts()
    for seconds in (0.0, -1.0):
        costs.observe_verify(1, seconds)
        costs.observe_stage(0, 1, True, seconds)
    assert costs.facts() == before
    rate = RunRate(times(0, -5, -5))
    for _ in range(3):
        rate.lap(1.0)
        rate.emitted(3)
    assert rate.per_second(costs) == 1.0


def test_the_parts_of_a_run_are_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase_timer.time, "perf_counter", times(10, 9, 8, 7))
    timer = PhaseTimer()
    with timer.measure("decoding"):
        pass
    assert set(timer.facts().values()) == {0.0}


def test_energy_of_such_a_window_is_missing_with_its_reason() -> None:
    samples = (Sample(2.0, 100.0), Sample(1.0, 100.0))
    fields = window_fields(checked(Reading(-1.0, 5.0, samples)), 10.0)
    assert [fields[name] for name in ("energy_s", "energy_j", "energy_net_j", "energy_trace_j")] == [None] * 4
    assert fields["reasons"]["energy_s"] == fields["reasons"]["energy_j"] == "the meter's clock went on by -1 s"
    assert fields["reasons"]["energy_trace_j"] == "the clock of the power samples went back"
