"""`specbench-s2d import`: from files to a run that the other commands read; flags for files that are not ours."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from specbench_s2d.cli.main import main
from specbench_s2d.exchange import answer_import
from specbench_s2d.runs.folder import read_records
from tests.exchange.test_answer_import import without_category
from tests.exchange.test_spec_bench import answer, written

VANILLA, EAGLE = "vicuna-7b-v1.3-vanilla-temp-0.0", "vicuna-7b-v1.3-eagle-temp-0.0"
DEMO = Path(__file__).resolve().parents[2] / "results" / "baselines" / "demo"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two questions of the baseline, and of a method at twice its rate."""
    made = []
    for model_id, seconds in ((VANILLA, 2.0), (EAGLE, 1.0)):
        lines = [answer(model_id=model_id, question_id=i, wall_time=[seconds], turns=["who is it?"]) for i in (81, 82)]
        made.append(str(written(tmp_path / f"{model_id}.jsonl", *lines)))
    return made


def test_spec_benchs_own_files_become_a_run_that_is_reported_compared_and_exported(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    flags = ["--target", "vicuna-7b-v1.3", "--baseline", VANILLA, "--label", f"{EAGLE}=eagle", "--lossy", "eagle"]
    assert main(["import", *files, "--out", out, *flags, "--tokenizer", "demo-s", "--temperature", "0"]) == 0
    said = capsys.readouterr().err.strip()
    assert said == f"wrote {out}: 4 turns of 2 decoders; next: specbench-s2d report {out}"
    records = read_records(tmp_path / "run")
    assert {(r.target, r.label, r.lossy) for r in records} == {
        ("vicuna-7b-v1.3", "ar", False),
        ("vicuna-7b-v1.3", "eagle", True),
    }
    assert records[0].retokenized_tokens and records[0].retokenized_tokens > 1
    assert main(["report", out]) == 0
    assert "eagle †" in capsys.readouterr().out
    assert main(["compare", out, "published:spec-bench"]) == 0
    table = capsys.readouterr().out
    assert "EAGLE" in table and "2.50" in table
    assert main(["compare", out, "--against", "ar"]) == 0
    assert main(["export", out, "--format", "spec-bench", "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "vicuna-7b-v1.3-ar-repeat-0.jsonl").is_file()


def test_a_tokenizer_counts_as_the_run_did(tmp_path: Path) -> None:
    """The demo run's own counts, from its texts alone."""
    assert main(["export", str(DEMO), "--format", "spec-bench", "--out", str(tmp_path / "out")]) == 0
    files = [str(tmp_path / "out" / f"demo-s-{label}-repeat-0.jsonl") for label in ("ar", "s2d-tree")]
    assert main(["import", *files, "--out", str(tmp_path / "run"), "--tokenizer", "demo-s"]) == 0
    before = {(r.target, r.label, r.question_id, r.turn): r.retokenized_tokens for r in read_records(DEMO)}
    after = {(r.target, r.label, r.question_id, r.turn): r.retokenized_tokens for r in read_records(tmp_path / "run")}
    assert len(after) == 2 * 35 and after.items() <= before.items()


def test_a_paper_asks_for_the_temperature_that_nobody_gave(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["import", *files, "--out", out, "--target", "vicuna-7b-v1.3", "--baseline", VANILLA]) == 0
    capsys.readouterr()
    assert main(["compare", out, "published:spec-bench"]) == 2
    assert "import it again with --temperature T" in capsys.readouterr().err


MISTAKES = {
    "no target": ([], "ends with no label of a decoder known here"),
    "a label that is none": (["--target", "vicuna-7b-v1.3", "--label", "x"], "--label x: give MODEL_ID=LABEL"),
    "two labels": (["--baseline", VANILLA, "--label", f"{VANILLA}=x"], f"{VANILLA} has the label 'ar' already"),
    "no such model": (["--target", "vicuna-7b-v1.3", "--tokenizer", "demo-x"], "unknown model 'demo-x'"),
    "a temperature that is none": (["--temperature", "-1"], "greater than or equal to 0"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    case: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, message = MISTAKES[case]
    assert main(["import", *files, "--out", str(tmp_path / "run"), *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_headline_of_files_like_eagle_s_counts_their_new_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """15 spaces are 16 ids, but encoded again 2: Spec-Bench's formula says 16.00 where twice the rate is 2.00."""
    files = []
    for model_id, seconds, last in (("v-base", 2.0, 15), ("v-eagle", 1.0, 7)):
        lines = [without_category(question_id=i, model_id=model_id, turns=[" " * 15], new_tokens=[16],
                                  wall_time=[seconds]) for i in range(81, 86)]  # fmt: skip
        for line in lines:
            line["choices"][0]["idxs"] = [last]
        files.append(str(written(tmp_path / f"{model_id}.jsonl", *lines)))
    out, base = str(tmp_path / "run"), ["--target", "v", "--baseline", "v-base"]
    assert main(["import", *files, "--out", out, *base, "--tokenizer", "demo-s"]) == 0
    capsys.readouterr()
    assert main(["report", out]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"ar 1\.00 1\.00–1\.00 8\.00 .* eagle 2\.00 2\.00–2\.00 16\.00", said)
    assert "makes ar beside itself 8.00 on v: take no speed-up by it as true" in said
    assert "Mean accepted tokens of ar, eagle are derived" in said
    assert "dashes stand for what answer files do not hold" in said and "Import again" not in said


@pytest.mark.parametrize(("more", "flag"), [([], "--baseline MODEL_ID"), (["--baseline", VANILLA], "--tokenizer NAME")])
def test_dashes_name_the_flag_that_mends_them(
    more: list[str], flag: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["import", *files, "--out", out, "--target", "vicuna-7b-v1.3", *more]) == 0
    assert main(["report", out]) == 0
    (line,) = re.findall(r"Imported: .*?\)\.", " ".join(capsys.readouterr().out.split()))
    assert "Import again for more (" in line and flag in line


def test_a_folder_without_permission_is_refused_and_nothing_is_made(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    words = ["import", *files, "--out", str(tmp_path / "deep" / "run"), "--target", "vicuna-7b-v1.3"]
    there = sorted(tmp_path.iterdir())
    assert main(words) == 2
    said = f"error: --out {tmp_path}/deep/run: cannot be written (no permission in {tmp_path}); give another.\n"
    assert capsys.readouterr().err == said
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize(
    ("call", "named"), [("fsync", "records.jsonl: "), ("mkdir", ""), ("replace", "manifest.json: ")]
)
def test_a_disk_that_turns_read_only_meanwhile_leaves_nothing_half_written(
    call: str, named: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refuse(*given: object, **_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(answer_import, "why_no_folder", lambda out: None)
    monkeypatch.setattr(os, call, refuse)
    out, there = tmp_path / "run", sorted(tmp_path.iterdir())
    assert main(["import", *files, "--out", str(out), "--target", "vicuna-7b-v1.3"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: --out {out}: cannot be written (") and err.count("\n") == 1
    assert "Read-only file system); mount its disk for writing, or give another folder." in err
    assert named in err and "partial" not in err
    assert sorted(tmp_path.iterdir()) == there
