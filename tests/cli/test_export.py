"""`specbench-s2d export`: what it says it wrote and left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbench_s2d.cli.main import main
from tests.analysis.factory import paper_run
from tests.cli.test_compare import write_run


def test_it_says_what_it_wrote_and_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [r.model_copy(update={"output_text": "x"}) for r in paper_run()]
    records[1] = records[1].model_copy(update={"status": "failed"})
    out = tmp_path / "out"
    assert main(["export", str(write_run(tmp_path / "run", records)), "--format", "spec-bench", "--out", str(out)]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "left out: t, sd, repeat 0: 1 of 2 questions left out: 1 failed",
        f"wrote {out}/t-ar-repeat-0.jsonl",
        f"wrote {out}/t-sd-repeat-0.jsonl",
    ]


def test_nothing_is_exported_over_a_run_or_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", paper_run())
    (tmp_path / "file").touch()
    for out, said in (
        ("run", "is the folder of a run, whose tables it would replace"),
        ("file", "is a file, and no folder"),
    ):
        assert main(["export", str(run), "--format", "csv", "--out", str(tmp_path / out)]) == 2
        assert f"--out {tmp_path / out}: {said}; give a" in capsys.readouterr().err
    assert not (run / "records.csv").exists()


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(write_run(tmp_path / "run", paper_run()))
    assert main(["export", run, "--format", "excel", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "error: unknown format 'excel'. Known: csv, latex, markdown, parquet, spec-bench.\n"
    )
