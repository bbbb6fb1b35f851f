"""`specbench-s2d run` on models as the Vicuna line is published: `.bin` weights and a tokenizer.model alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specbench_s2d.cli.main import main
from tests.vicuna import as_legacy_bin, as_shards, write_vicuna


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """A target in shards, a plain draft in one file: the target's first layer."""
    target = write_vicuna(tmp_path / "vicuna-7b-v1.5", as_shards)
    draft = write_vicuna(tmp_path / "vicuna-68m", as_legacy_bin, layers=1)
    models = ["--target", str(target), "--draft", str(draft), "--device", "cpu", "--energy", "off"]
    return ["run", *models, "--questions", "embedded", "--suite", "qa", "--limit", "2", "--max-new-tokens", "8"]


def test_a_run_on_bin_weights_has_vicunas_prompts(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*flags, "--decoder", "ar,sd", "--out", str(out)]) == 0
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert {(record["label"], record["status"]) for record in records} == {("ar", "ok"), ("sd", "ok")}
    assert "prompts by the template 'vicuna'" in capsys.readouterr().err


def test_a_dry_run_needs_no_more(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*flags, "--decoder", "ar,sd", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
