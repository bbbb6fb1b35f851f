"""Answers of one token: every command copes, and nothing is said of a rate that there is not."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from specbench_s2d.cli.main import main


def test_a_run_of_one_new_token_has_empty_rates_with_their_reason(
    tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--target", str(tiny_models / "tiny-target"), "--draft", str(tiny_models / "tiny-draft")]
    grid = ["--decoder", "ar,sd,lookup", "--suite", "qa", "--questions", "embedded", "--max-new-tokens", "1"]
    for name in ("a", "b"):
        assert main(["run", *models, *grid, "--out", str(tmp_path / name)]) == 0
    said = "".join(capsys.readouterr())
    assert "is slow beside what memory allows" not in said and "no decode times are known" in " ".join(said.split())
    with (tmp_path / "a" / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert (row["tokens_per_s"], row["percent_of_bound"], row["speedup"], row["mat"], row["cost_ratio"]) == (
            "",
        ) * 5
        assert "tokens_per_s: no decode time: every answer is one token" in row["notes"]
        assert row["speedup_e2e"] and row["new_tokens"] == row["records"]
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["report", a]) == 0
    assert main(["compare", a, b]) == 0 and main(["compare", a, "--against", "ar"]) == 0
    capsys.readouterr()
    assert main(["check", a, "--baseline", b, "--speed", "judge"]) in (0, 3)
    assert "run both with more --max-new-tokens" in " ".join(capsys.readouterr().out.split())
    for form in ("spec-bench", "csv", "parquet", "latex", "markdown"):
        assert main(["export", a, "--format", form, "--out", str(tmp_path / form)]) == 0
