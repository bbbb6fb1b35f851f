"""What a run finds of its machine, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench import monitor as module
from specbench_s2d.bench.monitor import Monitor
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.errors import UnfitMachineError
from specbench_s2d.runs.folder import RunStore, read_manifest
from specbench_s2d.runs.record import SCHEMA_VERSION

BUSY = {"cpu": {"usable_cores": 2, "other_load_cores": 1.0, "clock_mhz": 3000.0}}
REST = {"cpu": {"usable_cores": 2, "other_load_cores": 0.0, "clock_mhz": 3000.0}}
SLOWED = {"cpu": {"usable_cores": 2, "other_load_cores": 0.0, "clock_mhz": 2000.0}}


def observing(monkeypatch: pytest.MonkeyPatch, *facts: dict[str, Any]) -> None:
    left = list(facts)
    monkeypatch.setattr(module, "observe", lambda device: left.pop(0))


def store_in(folder: Path, **facts: Any) -> RunStore:
    return RunStore(folder, {"schema_version": SCHEMA_VERSION, "run_id": "r", "identity": {}, "cells": 1, **facts})


def test_a_machine_at_rest_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    observing(monkeypatch, REST)
    with store_in(tmp_path) as store:
        machine = Monitor("cpu", REST, store, PhaseTimer())
        assert machine.begin() == machine.look("end") == machine.found == []


def test_a_finding_says_when_it_was_made_and_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    observing(monkeypatch, BUSY, SLOWED)
    with store_in(tmp_path) as store:
        machine = Monitor("cpu", BUSY, store, PhaseTimer())
        assert machine.found == []  # nothing has been measured yet
        assert len(machine.begin()) == 1 and machine.begin() == []
        assert [(entry["at"], entry["about"]) for entry in machine.found] == [("start", "CPU")]
        assert machine.look("demo-s") == []  # as busy as before
        [line] = machine.look("end")
    assert line.startswith("CPU clocks moved from 3,000 to 2,000 MHz: ")
    assert [entry["at"] for entry in read_manifest(tmp_path)["conditions"]] == ["start", "end"]


def test_a_run_that_goes_on_keeps_what_was_found(tmp_path: Path) -> None:
    before = {"at": "start", "about": "GPU", "what": "hot", "advice": "wait"}
    with store_in(tmp_path, conditions=[before]) as store:
        machine = Monitor("cpu", REST, store, PhaseTimer())
        assert machine.begin() == [] and machine.found == [before]


def test_a_run_that_goes_on_elsewhere_says_so(tmp_path: Path) -> None:
    began = {"cpu": {"model": "one", "threads": 16}, "gpu": {"name": None}}
    now = {"cpu": {"model": "one", "threads": 1}, "gpu": {"name": None}}
    with store_in(tmp_path, environment=began) as store:
        [line] = Monitor("cpu", now, store, PhaseTimer()).begin()
        assert line.startswith("machine the run began elsewhere: threads 16, now 1: ")
        assert store.manifest["conditions"][0]["transient"] is True
    with store_in(tmp_path, environment=began) as store:
        assert Monitor("cpu", began, store, PhaseTimer()).begin() == []


def test_strict_raises_before_anything_is_timed_and_each_time(tmp_path: Path) -> None:
    """A run that goes on finds again what it found before, and stops again."""
    for _ in range(2):
        with store_in(tmp_path) as store, pytest.raises(UnfitMachineError) as caught:
            Monitor("cpu", BUSY, store, PhaseTimer(), strict=True).begin()
        assert "--strict: this machine is not fit to measure on (CPU busy: other processes use 1.0" in str(caught.value)
        assert caught.value.exit_code == 3
    assert len(read_manifest(tmp_path)["conditions"]) == 1


def test_strict_lets_pass_how_a_machine_is_set_up(tmp_path: Path) -> None:
    slow = {"cpu": {"usable_cores": 2, "governor": "powersave"}}
    with store_in(tmp_path) as store:
        [line] = Monitor("cpu", slow, store, PhaseTimer(), strict=True).begin()
        assert "governor powersave" in line
    crowded = {"cpu": {"usable_cores": 2, "threads": 4}}
    with store_in(tmp_path) as store, pytest.raises(UnfitMachineError, match="4 threads on 2 usable cores"):
        Monitor("cpu", crowded, store, PhaseTimer(), strict=True).begin()
