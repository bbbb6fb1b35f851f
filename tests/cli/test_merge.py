"""`specbench-s2d run --shard I/N`, then `merge`: what a whole run gives, but for the times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.cli.main import main
from specbench_s2d.runs.folder import read_manifest, read_records

_TIMES = {
    "run_id", "prefill_s", "decode_s", "total_s", "draft_s", "verify_s", "other_s", "bound_s",
}  # fmt: skip


def untimed(folder: Path) -> dict[str, dict[str, Any]]:
    return {record.key: record.model_dump(exclude=_TIMES) for record in read_records(folder)}


@pytest.fixture
def grid(tiny_models: Path) -> list[str]:
    given = ["run", "--target", str(tiny_models / "tiny-target"), "--decoder", "ar,lookup", "--questions", "embedded"]
    return [*given, "--suite", "qa", "--limit", "3", "--max-new-tokens", "8", "--device", "cpu", "--energy", "off"]


def test_shards_merged_are_the_whole_run(grid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*grid, "--out", str(tmp_path / "whole")]) == 0
    parts = []
    for index in (1, 2):
        parts.append(str(tmp_path / f"part{index}"))
        assert main([*grid, "--shard", f"{index}/2", "--out", parts[-1]]) == 0
    capsys.readouterr()
    assert main(["merge", *parts, "--out", str(tmp_path / "joined")]) == 0
    out = capsys.readouterr().out
    assert "joined: 6 records of 6 cells, on 1 device" in out and "next: specbench-s2d report" in out
    assert untimed(tmp_path / "joined") == untimed(tmp_path / "whole")
    assert read_manifest(tmp_path / "joined")["ended"]
    assert main(["merge", parts[0], "--out", str(tmp_path / "half")]) == 1
    assert "missing: shard 2/2" in capsys.readouterr().err
    assert main([*grid, "--shard", "2/2", "--out", parts[0]]) == 2
    assert "the shard (1/2 there)" in capsys.readouterr().err


def test_a_shard_that_is_none_is_one_line(grid: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*grid, "--shard", "3/2"]) == 2
    assert capsys.readouterr().err == "error: --shard: shards of 2 are 1/2 to 2/2, got '3/2'.\n"
