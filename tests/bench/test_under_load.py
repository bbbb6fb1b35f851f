"""What a run measures of its machine while it times: the rate that bounds steps, and what others do meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbench_s2d.bench import runner
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.errors import UnfitMachineError
from specbench_s2d.measure.machine import LoadWatch
from specbench_s2d.runs.folder import read_manifest, read_records
from tests.bench.sessions import with_methods
from tests.tiny_run import tiny_plan


@pytest.fixture
def plan(tiny_models: Path) -> Plan:
    return tiny_plan(tiny_models, ["ar", "sd:gamma=3"], max_new_tokens=12)


def test_the_bound_is_of_the_rate_over_what_a_step_of_the_target_reads(plan: Plan, tmp_path: Path) -> None:
    execute(plan, tmp_path / "run")
    facts = read_manifest(tmp_path / "run")["targets"]["tiny-target"]
    rate = facts["read_rate"]
    assert rate["low_bytes_per_s"] <= rate["bytes_per_s"] <= rate["high_bytes_per_s"]
    assert rate["rounds"] >= 35 and rate["threads"] == facts["engines"]["tiny-target"]["threads"]
    assert facts["parameter_bytes"] / 2 < rate["buffer_bytes"] < 2 * facts["parameter_bytes"]
    for record in read_records(tmp_path / "run"):
        assert record.bound_s is not None and (record.bound_s > 0) == (record.target_passes != 0)


def test_what_others_do_while_a_target_is_timed_is_told_and_kept(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = {"usable_cores": 2, "watched_s": 9.0, "other_load_cores": 1.9, "stolen_cores": 0.0,
            "most_other_load_cores": 2.0, "disturbed_share": 1.0}  # fmt: skip
    monkeypatch.setattr(LoadWatch, "facts", lambda self: load)
    unsteady = property(lambda self: {"ar": 0.31})
    execute(plan, tmp_path / "run", open_session=with_methods(restless=unsteady))
    manifest = read_manifest(tmp_path / "run")
    assert manifest["targets"]["tiny-target"]["load"] == load
    found = {c["what"]: (c["at"], c["launch"], c["transient"]) for c in manifest["conditions"]}
    busy = "busy while it was timed: other processes used 1.9 of the 2 cores on average"
    restless = "never became steady, with the spread of the last runs: ar (31 %)"
    assert found[busy] == found[restless] == found[busy.replace("was timed", "warmed up")] == ("tiny-target", 0, True)


def test_strict_stops_after_the_target_that_was_disturbed_and_keeps_its_records(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = {"usable_cores": 2, "other_load_cores": 0.0, "stolen_cores": 0.0}
    monkeypatch.setattr(runner, "environment", lambda device: {"cpu": {"usable_cores": 2}, "gpu": {"name": None}})
    load = {**quiet, "other_load_cores": 1.0, "disturbed_share": 1.0, "most_other_load_cores": 1.0}
    left = [{**quiet, "disturbed_share": 0.0, "most_other_load_cores": 0.0}, load]  # in the warm-up, and while timed
    monkeypatch.setattr(LoadWatch, "facts", lambda self: left.pop(0))
    steady = with_methods(restless=property(lambda self: {}))
    with pytest.raises(UnfitMachineError, match=r"not fit to measure on \(CPU busy while it was timed"):
        execute(plan, tmp_path / "run", open_session=steady, strict=True)
    assert {r.key for r in read_records(tmp_path / "run")} == plan.keys
    assert read_manifest(tmp_path / "run")["ended"] is None
