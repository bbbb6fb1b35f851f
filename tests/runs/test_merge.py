"""Runs of shards joined: every cell once, the same records as the whole run, and what does not belong is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.analysis.tables.head import head
from specbench_s2d.analysis.tables.summary import OVERALL, summary_table
from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.runs.folder import MANIFEST, RECORDS, RunStore, read_manifest, read_records
from specbench_s2d.runs.manifest import new_manifest
from specbench_s2d.runs.merge import PARTS, merge
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded
from tests.refusals import refused

ENVIRONMENT: dict[str, Any] = {
    "code": {"version": "1", "commit": "abc"}, "libraries": {"torch": "2.13.0"},
    "gpu": {"name": "NVIDIA H100", "uuid": "GPU-1", "driver": "580"}, "cpu": {},
}  # fmt: skip


def made(folder: Path, shard: str | None, records: Sequence[Record], **changes: Any) -> Path:
    """A finished run of a shard, with keys by what was decoded."""
    identity: dict[str, Any] = {"settings": {}, "decoders": ["ar", "sd"], "weights": {"demo-s": "1"}, "questions": {}}
    environment = {**ENVIRONMENT, **changes.pop("environment", {})}
    manifest = new_manifest(folder.name, {**identity, **changes}, {"launches": 1}, "embedded", len(records), {},
                            environment, shard)  # fmt: skip
    keyed = [one.updated(key=f"{one.label}-{one.question_id}", run_id=folder.name) for one in records]
    with RunStore(folder, manifest) as store:
        store.append(keyed)
        store.note(ended="2026-01-01T00:00:00+00:00")
    return folder


def cells(questions: Sequence[int], device: str = "GPU-1", speed: float = 1.0) -> list[Record]:
    each = {"suite": "qa", "device_id": device}
    pairs = (
        (ar(q, 20, decode_s=2.0 / speed, **each), decoded("sd", q, [(5, 3, 4)] * 4, decode_s=1.0 / speed, **each))
        for q in questions
    )
    return [one for pair in pairs for one in pair]


def test_shards_together_are_the_whole_run(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", None, cells(range(6)))
    parts = [made(tmp_path / f"part{i}", f"{i}/2", cells(range(3 * i - 3, 3 * i))) for i in (2, 1)]
    joined = merge(parts, tmp_path / "joined")
    assert (joined.records, joined.cells, joined.devices, joined.missing) == (12, 12, 1, [])
    ours, theirs = (read_records(folder) for folder in (tmp_path / "joined", whole))
    assert [r.updated(run_id="r") for r in ours] == [r.updated(run_id="r") for r in theirs]
    assert {r.run_id for r in ours} == {"joined"}
    manifest = read_manifest(tmp_path / "joined")
    assert manifest["identity"] == read_manifest(whole)["identity"] and "shard" not in manifest
    assert manifest["cells"] == 12 and manifest["ended"] and [p["shard"] for p in manifest[PARTS]] == ["1/2", "2/2"]


def test_a_missing_shard_is_named_and_the_run_has_not_ended(tmp_path: Path) -> None:
    joined = merge([made(tmp_path / "a", "1/3", cells([0])), made(tmp_path / "c", "3/3", cells([2]))], tmp_path / "out")
    assert list(joined.missing) == ["2/3"] and read_manifest(tmp_path / "out")["ended"] is None


def test_speed_pairs_cells_of_one_device_and_the_table_says_how_many(tmp_path: Path) -> None:
    """AR and sd of question 9 were measured on two devices: they are no pair."""
    first = [*cells(range(5)), *(r for r in cells([9]) if r.label == "ar")]
    second = [*cells(range(5, 9), "GPU-2", 2.0), *(r for r in cells([9], "GPU-2", 2.0) if r.label == "sd")]
    merge([made(tmp_path / "a", "1/2", first), made(tmp_path / "b", "2/2", second)], tmp_path / "out")
    table = summary_table(read_records(tmp_path / "out"))
    sd = table[(table["label"] == "sd") & (table["suite"] == OVERALL)].iloc[0]
    assert (sd["devices"], sd["pairs"], sd["unpaired"]) == (2, 9, 1)
    alone = table[(table["label"] == "ar") & (table["suite"] == OVERALL)].iloc[0]
    assert alone["device_spread"] == pytest.approx(1.0)
    assert any("measured on 2 devices, ar's tokens/s 100.0 % apart" in line for line in head(table))


def test_a_run_on_one_device_says_nothing_of_devices() -> None:
    table = summary_table(cells(range(3)))
    assert set(table["devices"]) == {1} and table["device_spread"].isna().all()
    assert not any("devices" in line for line in head(table))


def test_a_cell_in_two_runs_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    runs = [made(tmp_path / "a", "1/2", cells([0, 1])), made(tmp_path / "b", "2/2", cells([1]))]
    with refused(UserError, "b: holds ar on", "question 1 (qa), turn 2", "and so does", "share no cell"):
        merge(runs, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "what"), [({"decoders": ["ar"]}, "decoders"), ({"weights": {"demo-s": "2"}}, "demo-s")]
)
def test_runs_of_different_plans_are_refused(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    runs = [made(tmp_path / "a", "1/2", cells([0])), made(tmp_path / "b", "2/2", cells([1]), **changes)]
    with refused(UserError, "b: differs from", what, "parts of one plan"):
        merge(runs, tmp_path / "out")


@pytest.mark.parametrize(("other", "said"), [
    ({"libraries": {"torch": "2.12.0"}}, "torch 2.12.0 instead of 2.13.0"),
    ({"gpu": {"name": "NVIDIA H100", "uuid": "GPU-2", "driver": "570"}}, "the GPU driver 570 instead of 580"),
    ({"gpu": {"name": "NVIDIA A100", "uuid": "GPU-2", "driver": "580"}}, "NVIDIA A100 instead of NVIDIA H100"),
    ({"code": {"version": "2", "commit": "abc"}}, "specbench-s2d 2 instead of 1"),
])  # fmt: skip
def test_software_that_differs_is_refused_unless_allowed(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    runs = [made(tmp_path / "a", "1/2", cells([0])), made(tmp_path / "b", "2/2", cells([1]), environment=other)]
    with refused(UserError, "b: measured with", said, "--allow-mixed"):
        merge(runs, tmp_path / "out")
    assert merge(runs, tmp_path / "out", allow_mixed=True).records == 4


def test_a_folder_that_holds_something_is_not_written_to(tmp_path: Path) -> None:
    run = made(tmp_path / "a", "1/2", cells([0]))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with refused(UserError, "out: holds something already; give a new folder"):
        merge([run], tmp_path / "out")


def test_a_folder_that_stands_where_the_work_in_progress_would_is_kept(tmp_path: Path) -> None:
    part = made(tmp_path / "out.partial", "1/2", cells([0]))
    with refused(UserError, "out.partial is in its way", "or give another --out"):
        merge([part, made(tmp_path / "b", "2/2", cells([1]))], tmp_path / "out")
    assert len(read_records(part)) == 2 and not (tmp_path / "out").exists()


def test_an_out_within_a_part_is_refused(tmp_path: Path) -> None:
    part = made(tmp_path / "a", "1/1", cells([0]))
    with refused(UserError, "lies within", "give a folder beside it"):
        merge([part], part / "deep" / "out")
    assert not (part / "deep").exists()


def test_shards_of_different_numbers_are_refused(tmp_path: Path) -> None:
    parts = [made(tmp_path / "a", "1/2", cells([0])), made(tmp_path / "c", "3/3", cells([2]))]
    with refused(UserError, "is shard 3/3, and", "is 1/2; merge joins shards of one N"):
        merge(parts, tmp_path / "out")


def test_another_shard_does_not_go_on_in_a_shard_s_folder(tmp_path: Path) -> None:
    folder = made(tmp_path / "a", "1/2", cells([0]))
    wanted = json.loads((folder / MANIFEST).read_text()) | {"shard": "2/2"}
    with refused(RunFolderError, "the shard (1/2 there)"), RunStore(folder, wanted):
        pass
    assert (folder / RECORDS).exists()


def test_a_run_given_twice_a_whole_one_alone_and_no_run_are_one_line(tmp_path: Path) -> None:
    part, whole = made(tmp_path / "a", "1/2", cells([0])), made(tmp_path / "whole", None, cells([0]))
    (tmp_path / "link").symlink_to(part)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    with refused(UserError, f"{part}: is given twice; give every run once."):
        merge([part, part], out)
    with refused(UserError, f"{tmp_path}/link: is given twice, as {part} too; "):
        merge([part, tmp_path / "link"], out)
    with refused(UserError, f"{whole}: is the whole of its grid, no shard; "):
        merge([whole], out)
    for name, why in {"empty": "holds no manifest.json", "file": "is no folder", "none": "is not there"}.items():
        with refused(RunFolderError, f"{tmp_path / name}: {why}; give the folder of a run."):
            merge([part, tmp_path / name], out)
    assert not out.exists()
