"""What a run finds of its machine, and when."""

from __future__ import annotations

from typing import Any

import pytest

from specbench_s2d.bench import conditions
from specbench_s2d.bench.conditions import Conditions

BUSY = {"cpu": {"usable_cores": 2, "other_load_cores": 1.0, "clock_mhz": 3000.0}}
REST = {"cpu": {"usable_cores": 2, "other_load_cores": 0.0, "clock_mhz": 3000.0}}
SLOWED = {"cpu": {"usable_cores": 2, "other_load_cores": 0.0, "clock_mhz": 2000.0}}


def observing(monkeypatch: pytest.MonkeyPatch, *facts: dict[str, Any]) -> None:
    left = list(facts)
    monkeypatch.setattr(conditions, "observe", lambda device: left.pop(0))


def test_a_machine_at_rest_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    observing(monkeypatch, REST)
    watch = Conditions("cpu", REST)
    assert watch.look("end") == watch.found == watch.lines() == []


def test_a_finding_says_when_it_was_made_and_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    observing(monkeypatch, BUSY, SLOWED)
    watch = Conditions("cpu", BUSY)
    assert [(entry["at"], entry["about"]) for entry in watch.found] == [("start", "CPU")]
    assert watch.look("demo-s") == []  # as busy as before
    [line] = watch.look("end")
    assert line.startswith("CPU clocks moved from 3,000 to 2,000 MHz: ")
    assert watch.found[1]["at"] == "end" and len(watch.lines()) == 2


def test_a_run_that_goes_on_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"at": "start", "about": "GPU", "what": "hot", "advice": "wait"}
    assert Conditions("cpu", REST, [before]).lines() == ["GPU hot: wait."]
