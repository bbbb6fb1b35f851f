"""Launches: each in a fresh process, into one folder, resumed where it stopped."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from specbench_s2d.bench import launches
from specbench_s2d.bench.launches import in_fresh_process, launch_here, run_launches
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.runner import Event, execute
from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.models import file_hash
from specbench_s2d.runs.folder import read_manifest, read_records, write_manifest_file
from specbench_s2d.runs.reading import read_keys
from tests.refusals import refused
from tests.tiny_run import plan_of, tiny_spec

CELLS = 4  # two decoders on two questions


@pytest.fixture
def spec(tiny_models: Path) -> dict[str, Any]:
    return tiny_spec(tiny_models, ["ar", "sd:gamma=3"], launches=3)


here = execute
"""A launch in this process, which costs no start."""


def test_every_launch_measures_every_cell_once(spec: dict[str, Any], tmp_path: Path) -> None:
    outcome = run_launches(plan_of(spec), tmp_path / "run", launcher=here)
    assert [r.launch for r in outcome.records] == [0] * CELLS + [1] * CELLS + [2] * CELLS
    assert len({r.key for r in outcome.records}) == 3 * CELLS
    by_launch = [[r.output_ids for r in sorted(outcome.records, key=lambda r: (r.label, str(r.question_id)))
                  if r.launch == n] for n in range(3)]  # fmt: skip
    assert by_launch[0] == by_launch[1] == by_launch[2]
    manifest = read_manifest(tmp_path / "run")
    assert manifest["cells"] == 3 * CELLS and manifest["ended"]
    assert len({r.device_id for r in outcome.records}) == 1 and str(outcome.records[0].device_id).startswith("cpu:")


def test_a_run_killed_before_it_said_when_it_ended_is_completed(spec: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(spec)
    records = run_launches(plan, tmp_path / "run", launcher=here).records
    manifest = read_manifest(tmp_path / "run")
    write_manifest_file(tmp_path / "run" / "manifest.json", {**manifest, "ended": None})
    launches = []

    def noted(plan: Plan, *given: Any) -> None:
        launches.append(plan.launch)
        here(plan, *given)

    assert list(run_launches(plan, tmp_path / "run", launcher=noted).records) == list(records)
    assert launches == [2] and read_manifest(tmp_path / "run")["ended"]


def test_a_run_that_stopped_between_launches_goes_on_with_the_next(spec: dict[str, Any], tmp_path: Path) -> None:
    plan, done = plan_of(spec), []

    def stops(plan: Plan, *given: Any) -> None:
        if plan.launch == 1:
            raise KeyboardInterrupt
        here(plan, *given)

    def counted(plan: Plan, *given: Any) -> None:
        done.append(plan.launch)
        here(plan, *given)

    with pytest.raises(KeyboardInterrupt):
        run_launches(plan, tmp_path / "run", launcher=stops)
    assert read_manifest(tmp_path / "run")["ended"] is None
    assert len(run_launches(plan, tmp_path / "run", launcher=counted).records) == 3 * CELLS
    assert done == [1, 2]


def test_a_folder_takes_more_launches_and_none_away(spec: dict[str, Any], tmp_path: Path) -> None:
    one, three = (plan_of(spec, launches=count) for count in (1, 3))
    run_launches(one, tmp_path / "run")
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    run_launches(three, tmp_path / "run", launcher=here)
    assert (tmp_path / "run" / "records.jsonl").read_bytes().startswith(before)
    assert read_manifest(tmp_path / "run")["spec"]["launches"] == 3
    assert len(run_launches(one, tmp_path / "run").records) == 3 * CELLS
    assert read_manifest(tmp_path / "run")["cells"] == 3 * CELLS


def test_the_folder_is_read_once_whatever_the_launches(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(launches, "read_keys", lambda folder: read.append(folder) or read_keys(folder))
    plan, told = plan_of(spec), list[tuple[str | None, int]]()
    run_launches(plan_of(spec, launches=1), tmp_path / "run", launcher=here)
    run_launches(plan, tmp_path / "run", lambda event: told.append((event.text, event.done)), launcher=here)
    assert [said for said in told if said[0] and said[0].startswith("launch")] == [
        ("launch 2 of 3", CELLS), ("launch 3 of 3", 2 * CELLS)
    ]  # fmt: skip
    assert read == [tmp_path / "run"]


def test_a_launch_hashes_no_file_that_the_first_process_has(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(spec)
    plan.identity()
    hashes = file_hash.known_hashes()
    assert any(Path(state.path).parent.name == "tiny-target" for state in hashes)
    monkeypatch.setattr(file_hash, "_known", {})
    monkeypatch.setattr(launches, "execute", lambda *given, **named: given[0].identity())
    monkeypatch.setattr("hashlib.file_digest", lambda *given: pytest.fail("a file is read"))
    theirs: Any = SimpleNamespace(send=pytest.fail, close=lambda: None)
    launch_here(theirs, plan.spec, tmp_path, 0, False, False, hashes)


def test_a_launch_really_is_another_process_and_its_events_arrive(spec: dict[str, Any], tmp_path: Path) -> None:
    seen: list[Event] = []
    plan = plan_of(spec, launches=2)
    outcome = run_launches(plan, tmp_path / "run", seen.append)
    texts = [event.text for event in seen if event.text]
    assert texts[0] == "launch 1 of 2" and any("loading and warming up" in str(text) for text in texts)
    assert sum(len(event.records) for event in seen) == len(outcome.records) == 2 * CELLS
    assert seen[-1].done == seen[-1].cells == 2 * CELLS


@pytest.mark.slow
def test_a_mistake_in_the_other_process_is_one_line_here(spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "records.jsonl").write_text("")
    with refused(UserError, "holds records without a manifest"):
        in_fresh_process(plan_of(spec), tmp_path / "run", lambda event: None, False, False)


def _dies(*given: Any) -> None:
    os._exit(9)


def test_a_process_that_dies_is_named_with_what_to_do(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("specbench_s2d.bench.launches.begin_launch", _dies)
    with refused(RunFolderError, "launch 2 died (exit code 9)", "--out"):
        in_fresh_process(replace(plan_of(spec), launch=1), tmp_path / "run", lambda event: None, False, False)
    assert not (tmp_path / "run").exists() or not read_records(tmp_path / "run")
