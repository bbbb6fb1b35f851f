"""`run --dry-run` refuses what the run refuses: the same line, the same exit code, and nothing is written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from specbench_s2d.cli.main import main

Grid = Callable[..., list[str]]


@pytest.fixture
def grid(tiny_models: Path, tmp_path: Path) -> Grid:
    """The words of a run into `tmp_path / "out"`, with more of them."""
    (tmp_path / "long.jsonl").write_text(json.dumps({"turns": ["word " * 5000], "category": "qa"}) + "\n")
    models = ["--target", str(tiny_models / "tiny-target"), "--draft", str(tiny_models / "tiny-draft")]
    asked = ["--suite", "qa", "--limit", "1", "--max-new-tokens", "8", "--device", "cpu", "--energy", "off"]
    return lambda *more: ["run", *models, *asked, "--out", str(tmp_path / "out"), *more]


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and the line of the error."""
    code = main(words)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return code, lines[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--questions", "{tmp}/long.jsonl"], "question 1 (qa), turn 1: up to 20,003 prompt tokens and 8 new ones"),
        (["--max-new-tokens", "5000"], "--max-new-tokens 5,000: the context of target tiny-target holds 4,096"),
        (["--max-new-tokens", "5000", "--long-prompts", "truncate"], "--max-new-tokens 5,000: the context of"),
        (["--temperature", "inf"], "--temperature: Input should be a finite number, got 'inf'."),
        (["--temperature", "nan"], "--temperature: Input should be"),
        (["--decoder", "sd:gamma=1000000"], "decoder 'sd:gamma=1000000': drafts of 1,000,000 tokens"),
        (["--decoder", "sd:exit=99"], "draft tiny-draft: exits 99: an exit is a depth from 1 to 3"),
        (["--decoder", "sd:draft=no-such-draft"], "unknown model 'no-such-draft'"),
        (["--decoder", "eagle"], "decoder 'eagle' needs an eagle draft"),
        (["--energy", "nvml"], "--energy nvml: the run is on cpu"),
        (["--energy", "watts"], "unknown meter 'watts'"),
        (["--engine", "native", "--dtype", "bf16"], "--engine native: on a CPU it computes in float32"),
        (["--suite", "custom/none"], "embedded: no questions of suite 'custom/none'; it has mt_bench"),
        (["--questions", "none.jsonl"], "none.jsonl: no such file"),
        (["--template", "none"], "unknown template 'none'"),
        (["--shard", "3/9"], "--shard 3/9: the grid has 1 targets"),
        (["--target", "{tmp}/none"], "/none: no such folder"),
        (["--target", "shape:llama-2-70b", "--draft", "shape:vicuna-68m"], "--device cpu: "),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_run_and_its_dry_run_refuse_in_one_line(
    grid: Grid, more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = grid(*("--questions", "embedded"), *(word.format(tmp=tmp_path) for word in more))
    if "--target" in more:
        words = [words[0], *words[5:]]  # in place of the grid's own models
    refused = [refusal(given, capsys) for given in ([*words, "--dry-run"], words)]
    (code, line), of_run = ((code, re.sub(r"[\d.]+ GB are free", "are free", line)) for code, line in refused)
    assert (code, line) == of_run  # what is free changes from one moment to the next
    assert code == 2 and said in line
    assert not (tmp_path / "out").exists()


def _a_file(out: Path) -> None:
    out.write_text("")


def _in_a_file(out: Path) -> None:
    out.parent.rmdir()
    out.parent.write_text("")


def _an_export(out: Path) -> None:
    out.mkdir()
    (out / "leaderboard.md").write_text("")


def _records_alone(out: Path) -> None:
    out.mkdir()
    (out / "records.jsonl").write_text("")


def _packed(out: Path) -> None:
    out.mkdir()
    (out / "records.jsonl.xz").write_text("")


def _a_link_to_itself(out: Path) -> None:
    out.mkdir()
    (out / "records.jsonl").symlink_to("records.jsonl")


def _a_damaged_manifest(out: Path) -> None:
    out.mkdir()
    (out / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (_a_file, "is a file, and no folder; give another --out."),
        (_in_a_file, "/deep is a file, and no folder; give another --out."),
        (_an_export, "holds an export (leaderboard.md); give another --out."),
        (_records_alone, "holds records without a manifest"),
        (_packed, "its records are packed; `unxz "),
        (_a_damaged_manifest, "no manifest of a run"),
        (_a_link_to_itself, "records.jsonl: is a link that leads round in a circle"),
    ],
)
def test_a_folder_that_no_run_can_be_written_into_is_refused(
    grid: Grid, put: Callable[[Path], None], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    put(out)
    words = grid("--questions", "embedded", "--out", str(out))
    code, line = refusal([*words, "--dry-run"], capsys)
    assert (code, line) == refusal(words, capsys)
    assert code == 2 and said in line


def test_a_folder_of_another_run_in_use_or_damaged_is_refused(
    grid: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = grid("--questions", "embedded", "--decoder", "ar")
    assert main(own) == 0
    assert main([*own, "--dry-run"]) == 0
    capsys.readouterr()
    code, line = refusal([*own, "--seed", "1", "--dry-run"], capsys)
    assert (code, line) == refusal([*own, "--seed", "1"], capsys)
    assert code == 2 and "holds run out, which differs in settings" in line
    with FileLock(str(tmp_path / "out" / ".lock")):
        code, line = refusal([*own, "--dry-run"], capsys)
        assert (code, line) == refusal(own, capsys)
    assert code == 2 and "another process is writing to this run" in line
    with (tmp_path / "out" / "records.jsonl").open("a") as records:
        records.write("torn\n")
    code, line = refusal([*own, "--dry-run"], capsys)
    assert (code, line) == refusal(own, capsys)
    assert code == 2 and "records.jsonl:2: not a record" in line


def test_a_folder_without_permission_is_refused_before_anything_is_made(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    words = grid("--questions", "embedded")
    code, line = refusal([*words, "--dry-run"], capsys)
    assert (code, line) == refusal(words, capsys)
    assert code == 2 and f"cannot be written (no permission in {tmp_path}); give another --out." in line


@pytest.mark.parametrize("out", ["/proc/out", "/proc/deep/out"])
def test_a_folder_that_takes_nothing_even_from_root_is_refused(
    out: str, grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    words = grid("--questions", "embedded", "--out", out)
    code, line = refusal([*words, "--dry-run"], capsys)
    assert (code, line) == refusal(words, capsys)
    assert code == 2 and "cannot be written (no" in line and "in /proc" in line
