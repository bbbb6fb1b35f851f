"""A run that was killed between its last record and its last manifest, or that an older release began, is completed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench.runner import execute
from specbench_s2d.runs.folder import RunStore, read_manifest, read_records, write_manifest_file
from tests.bench.sessions import never
from tests.tiny_run import plan_of, tiny_spec


@pytest.fixture(scope="module")
def spec(tiny_models: Path) -> dict[str, Any]:
    return tiny_spec(tiny_models, ["ar", "lookup"], draft=[], max_new_tokens=6)


class Stop(BaseException):
    """Stands for whatever ends a process."""


def test_a_run_killed_before_its_last_manifest_is_completed_when_it_goes_on(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every record is there, and nothing is loaded again: `ended` is when the last record was written."""
    note = RunStore.note

    def die(self: RunStore, **facts: Any) -> None:
        if "ended" in facts:
            raise Stop
        note(self, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "note", die)
        with pytest.raises(Stop):
            execute(plan_of(spec), tmp_path / "run")
    killed = read_manifest(tmp_path / "run")
    assert killed["ended"] is None and killed["harness"]["decoding_s"] > 0
    os.utime(tmp_path / "run" / "records.jsonl", (2_000_000_000, 2_000_000_000))
    records = read_records(tmp_path / "run")
    assert list(execute(plan_of(spec), tmp_path / "run", open_session=never).records) == records
    completed = read_manifest(tmp_path / "run")
    assert completed["ended"] == "2033-05-18T03:33:20+00:00"
    assert completed["harness"]["decoding_s"] == killed["harness"]["decoding_s"]
    os.utime(tmp_path / "run" / "records.jsonl")
    execute(plan_of(spec), tmp_path / "run", open_session=never)
    assert read_manifest(tmp_path / "run") == completed


def test_fields_that_an_older_manifest_lacks_are_there_when_the_run_goes_on(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    execute(plan_of(spec), tmp_path / "run")
    whole = read_manifest(tmp_path / "run")
    lacking = {name: value for name, value in whole.items() if name not in ("spec", "environment", "ended", "targets")}
    write_manifest_file(tmp_path / "run" / "manifest.json", lacking)
    execute(plan_of(spec), tmp_path / "run", open_session=never)
    assert read_manifest(tmp_path / "run").keys() == whole.keys()
