"""`specbench-s2d report`: what it writes and prints, and one line for what it cannot read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from specbench_s2d.analysis.report.plots import draw
from specbench_s2d.cli.main import main
from specbench_s2d.runs.record import Record
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import make_record, paper_run

INTERVAL = "{:.2f}–{:.2f}".format(*ends_of_three_copies(5, 5.6, 4.4, (4, 16)))
"""Of the speed-up of the paper run's three copies."""


def write_run(folder: Path, records: list[Record]) -> Path:
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in records))
    return folder


def test_a_run_gets_tables_and_plots_and_the_table_is_printed(
    pictures: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "FORMATS", ("svg",))  # tests/analysis draws PNGs
    run = write_run(tmp_path / "run", paper_run(3))
    assert main(["report", str(run)]) == 0
    out = capsys.readouterr().out
    assert INTERVAL in out and "n = 6" in out
    assert pd.read_csv(run / "summary.csv").query("label == 'sd' and suite == 'qa'")["speedup"].item() == 5
    assert (run / "summary.md").is_file()
    assert f"{INTERVAL}, n = 6" in (run / "report.html").read_text(encoding="utf-8")
    assert {path.stem for path in (run / "plots").iterdir()} == {"speedup", "mat"}  # too few tokens for acceptance


def test_two_questions_have_no_interval_in_terminal_summary_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", paper_run())
    assert main(["report", str(run)]) == 0
    assert "n = 2" in capsys.readouterr().out
    assert "5.00 [n = 2]" in (run / "summary.md").read_text(encoding="utf-8")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "n = 2" in page and "no interval from fewer than 5 questions" in page
    row = pd.read_csv(run / "summary.csv").query("label == 'sd' and suite == 'qa'").iloc[0]
    assert pd.isna(row["speedup_low"]) and (row["speedup_n"], row["launches"]) == (2, 1)


def test_several_runs_are_measured_each_against_its_own_ar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slower = [r.model_copy(update={"decode_s": (r.decode_s or 0) * 2}) for r in paper_run(3)]
    runs = [write_run(tmp_path / "one", paper_run(3)), write_run(tmp_path / "two", slower)]
    assert main(["report", *map(str, runs), str(runs[0])]) == 0
    out = capsys.readouterr().out
    assert out.count("one: t") == out.count("two: t") == 1
    assert out.count(INTERVAL) == 2
    assert "run" not in pd.read_csv(runs[0] / "summary.csv").columns


def test_one_page_for_all_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name, paper_run()) for name in ("one", "two")]
    page = tmp_path / "new" / "both.html"
    assert main(["report", *map(str, runs), "--out", str(page)]) == 0
    assert re.findall("<h1>(.*)</h1>", page.read_text(encoding="utf-8")) == ["one", "two"]
    assert re.findall("<h1>(.*)</h1>", (runs[1] / "report.html").read_text(encoding="utf-8")) == ["two"]
    assert f"wrote {page}" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["page.txt", "folder.html", "file/page.html"])
def test_a_page_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    run = write_run(tmp_path / "run", paper_run())
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    assert main(["report", str(run), "--out", str(tmp_path / out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --out {tmp_path / out}: ") and error.count("\n") == 1


def test_failed_turns_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [*paper_run(), make_record("sd", 3, status="failed", error="out of memory")])
    assert main(["report", str(run)]) == 0
    assert "t, sd: 1 of 3 turns failed." in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["missing", "file", "no records", "empty", "not writable"])
def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    run = tmp_path / "run"
    if kind == "file":
        run.write_text("")
    elif kind != "missing":
        write_run(run, paper_run() if kind == "not writable" else [])
    if kind == "no records":
        (run / "records.jsonl").unlink()
    if kind == "not writable":
        (run / "plots").write_text("a file where a folder must go")
    assert main(["report", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run}")
    assert error.count("\n") == 1


def test_a_report_needs_no_torch() -> None:
    code = (
        "import sys, specbench_s2d.analysis.report.write; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, closed = write_run(tmp_path / "run", paper_run()), tmp_path / "closed"
    closed.mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: not (mode & os.W_OK and Path(path) in (run, closed)))
    assert main(["report", str(run), "--out", str(closed / "all.html")]) == 2
    assert f"all.html: its folder cannot be written (no permission in {closed})" in capsys.readouterr().err
    assert main(["report", str(run)]) == 2
    assert f"run: cannot be written (no permission in {run}); copy the run to" in capsys.readouterr().err
    assert [path.name for path in run.iterdir()] == ["records.jsonl"]
