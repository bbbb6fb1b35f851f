"""What a run finds of its machine, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench import monitor as module
from specbench_s2d.bench.monitor import Monitor
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.measure.bandwidth import Rates
from specbench_s2d.runs.folder import RunStore, read_manifest
from specbench_s2d.runs.record import SCHEMA_VERSION

BUSY = {"cpu": {"usable_cores": 2, "other_load_cores": 1.0, "clock_mhz": 3000.0}}
REST = {"cpu": {"usable_cores": 2, "other_load_cores": 0.0, "clock_mhz": 3000.0}}
SLOWED = {"cpu": {"usable_cores": 2, "other_load_cores": 0.0, "clock_mhz": 2000.0}}


def observing(monkeypatch: pytest.MonkeyPatch, *facts: dict[str, Any]) -> None:
    left = list(facts)
    monkeypatch.setattr(module, "observe", lambda device: left.pop(0))


def store_in(folder: Path, **facts: Any) -> RunStore:
    return RunStore(folder, {"schema_version": SCHEMA_VERSION, "run_id": "r", "identity": {}, **facts})


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


def test_the_read_rate_is_measured_once_in_the_life_of_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = [Rates(1e9, 2e9, 2**24, "little memory")]
    monkeypatch.setattr(module, "rates", lambda device: measured.pop())
    for _ in range(2):
        with store_in(tmp_path, reasons={"idle_power_w": "no meter"}) as store:
            assert Monitor("cpu", REST, store, PhaseTimer()).read_rate_bytes_per_s() == 1e9
    manifest = read_manifest(tmp_path)
    assert manifest["copy_rate_bytes_per_s"] == 2e9
    assert manifest["reasons"] == {"idle_power_w": "no meter", "rate_buffer_bytes": "little memory"}
