"""`specbench-s2d check`: exit codes, and what it writes for CI."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from specbench_s2d.cli.main import main
from specbench_s2d.runs.folder import MANIFEST, RECORDS
from tests.documents import OLD_RECORDS, OLD_RUN


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the demo run, to change."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(OLD_RUN / MANIFEST, folder)
    (folder / RECORDS).write_bytes(gzip.decompress(OLD_RECORDS.read_bytes()))
    return folder


def test_an_unchanged_run_holds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(run), "--baseline", str(OLD_RUN), "--baseline", str(run)]) == 0
    assert "run against schema_1: holds" in capsys.readouterr().out


def test_a_wrong_token_is_a_regression_in_every_form(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (run / RECORDS).read_text().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if json.loads(line)["label"] == "sd")
    record = json.loads(lines[place])
    record["output_ids"][0] += 1
    lines[place] = json.dumps(record) + "\n"
    (run / RECORDS).write_text("".join(lines))
    page, junit, summary = tmp_path / "page.md", tmp_path / "junit.xml", tmp_path / "summary.md"
    summary.write_text("# Job\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    flags = ["--markdown", str(page), "--junit", str(junit), "--json", "--speed", "skip"]
    assert main(["check", str(run), "--baseline", str(OLD_RUN / MANIFEST), *flags]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert [c["rule"] for c in facts["checks"] if c["verdict"] == "regressed"] == ["output ids"]
    assert "1 of 14 differ" in page.read_text() and "<failure" in junit.read_text()
    assert summary.read_text() == "# Job\n" + page.read_text()


def test_other_questions_cannot_be_compared(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((run / MANIFEST).read_text())
    manifest["identity"]["questions"]["qa"] = "0" * 64
    (run / MANIFEST).write_text(json.dumps(manifest))
    assert main(["check", str(run), "--baseline", str(OLD_RUN)]) == 3
    assert "cannot be judged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nowhere", "--baseline", str(OLD_RUN)], "nowhere: no such folder"),
        (["check", str(OLD_RUN), "--baseline", "nowhere"], "nowhere: no such folder"),
        (["check", str(OLD_RUN)], "--baseline"),
        (["check", str(OLD_RUN), "--baseline", str(OLD_RUN), "--speed", "fast"], "'fast'"),
        (["check", str(OLD_RUN), "--baseline", str(OLD_RUN), "--speed-margin", "-1"], "--speed-margin"),
        (["check", str(OLD_RUN), "--baseline", str(OLD_RUN), "--junit", "no/such/place.xml"], "no folder no/such"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_required_speed_that_was_not_judged_is_exit_code_3_and_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    second = shutil.copytree(run, tmp_path / "second")
    demand = ["check", str(run), "--baseline", str(OLD_RUN), "--baseline", str(second), "--require-speed"]
    assert main(demand) == 0
    manifest = json.loads((run / MANIFEST).read_text())
    manifest["environment"]["cpu"]["model"] = "another"
    (run / MANIFEST).write_text(json.dumps(manifest))
    capsys.readouterr()
    page, junit = tmp_path / "page.md", tmp_path / "junit.xml"
    assert main([*demand, "--markdown", str(page), "--junit", str(junit)]) == 3
    first = capsys.readouterr().out.splitlines()[0]
    assert "Speed was not judged: other processor (another; the baseline had" in first
    assert "Speed was not judged" in page.read_text() and 'name="speed judged"' in junit.read_text()
    assert main(demand[:-1]) == 0


def test_speed_cannot_be_both_required_and_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--require-speed", "--speed", "skip"]
    assert main(["check", str(OLD_RUN), "--baseline", str(OLD_RUN), *flags]) == 2
    assert "--require-speed with --speed skip" in capsys.readouterr().err
