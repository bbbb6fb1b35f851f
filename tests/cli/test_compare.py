"""`specbench-s2d compare`: what it prints and writes, and one line for what it cannot compare."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from specbench_s2d.cli.main import main
from specbench_s2d.runs.record import SCHEMA_VERSION, Record
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import ar, decoded, paper_run
from tests.analysis.report.grid import grid_run


def write_run(folder: Path, records: list[Record], **settings: object) -> Path:
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in records))
    identity = {"settings": {"temperature": 0.0, "device": "cpu", **settings}}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "run_id": records[0].run_id,
        "cells": len(records),
        "identity": identity,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "one", paper_run())


@pytest.fixture
def six(tmp_path: Path) -> Path:
    """Enough questions for intervals."""
    return write_run(tmp_path / "six", paper_run(3))


def test_two_runs_are_printed_with_what_differs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_run(tmp_path / "two", paper_run(), device="cuda")
    assert main(["compare", str(run), str(other)]) == 0
    out = capsys.readouterr().out
    assert "1.00 [n = 2]" in out
    assert "A: one; B: two." in out
    assert "The runs differ in device (cpu, cuda)." in out


def test_the_decoders_of_a_run_against_one_of_them(six: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """sd's 12 s over ar's 60 s; 10 s over 56 s without a first question, over 44 s without a second."""
    assert main(["compare", str(six), "--against", "sd"]) == 0
    low, high = ends_of_three_copies(1 / 5, 1 / 5.6, 1 / 4.4, (2, 2))
    out = capsys.readouterr().out
    assert f"0.20 [{low:.2f}–{high:.2f}, n = 6]" in out
    assert "within this launch" in " ".join(out.split())


def test_a_paper_beside_a_run_as_json_and_as_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "grid", grid_run(1, targets=["demo-s"]))
    out = tmp_path / "table.csv"
    as_one = ["--as", "demo-s=vicuna-7b"]
    assert main(["compare", str(run), "published:s2d", *as_one, "--json", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["title"] == "grid compared with published:s2d"
    assert any("demo-s – vicuna-7b" in note for note in answer["notes"])
    table = pd.read_csv(out)
    assert len(table) == len(answer["rows"]) > 40
    assert set(table["paper_target"]) == {"vicuna-7b"}
    assert f"wrote {out}" in captured.err


def test_heads_stand_beside_the_leaderboard_by_the_kind_that_the_manifest_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chain and tree of one EAGLE-1 head; EAGLE-3 has no values for 7B; an unknown head has no row."""
    options = {"gamma": None, "depth": 6, "topk": 10, "tokens": 60}
    lanes = {
        "eagle:gamma=4": ("one", {**options, "gamma": 4}),
        "eagle": ("one", options),
        "eagle:tokens=59": ("three", {**options, "tokens": 59}),
        "eagle:depth=2": ("new", {**options, "depth": 2}),
    }
    records = [ar(1, 9, decode_s=8)] + [
        decoded(label, 1, [(4, 3, 4), (4, 3, 4)], decode_s=2, draft=draft, decoder_options=own)
        for label, (draft, own) in lanes.items()
    ]
    target = {"target": "vicuna-7b-v1.3", "suite": "mt_bench", "category": "writing"}
    run = write_run(tmp_path / "heads", [r.model_copy(update=target) for r in records])
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["targets"] = {"vicuna-7b-v1.3": {"heads": {"one": "eagle", "three": "eagle3"}}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert main(["compare", str(run), "published:spec-bench", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {(row["label"], row["method"]) for row in answer["rows"]} == {
        ("eagle:gamma=4", "EAGLE"),
        ("eagle", "EAGLE2"),
    }
    notes = " ".join(answer["notes"])
    assert "No row for eagle:tokens=59 compared with vicuna-7b-v1.3: the paper has no values of EAGLE3 for it." in notes
    assert "eagle:depth=2 (the run's manifest does not say what kind of draft head new is)" in notes
    assert main(["compare", str(run), "published:spec-bench", "--as", "eagle:depth=2=EAGLE2", "--json"]) == 0
    assert ("eagle:depth=2", "EAGLE2") in {
        (row["label"], row["method"]) for row in json.loads(capsys.readouterr().out)["rows"]
    }


def test_json_says_that_two_questions_have_no_interval(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(run), "--against", "ar", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert (row["relative_speed"], row["relative_speed_low"], row["relative_speed_n"]) == (5, None, 2)
    assert "relative_speed: n = 2: no interval from fewer than 5 questions" in row["notes"]


def test_a_run_that_is_greedy_at_any_temperature_meets_a_papers_values_at_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "grid", grid_run(1, targets=["demo-s"]), temperature=0.7, top_k=1)
    assert main(["compare", str(run), "published:s2d", "--as", "demo-s=vicuna-7b"]) == 0
    sampled = write_run(tmp_path / "sampled", grid_run(1, targets=["demo-s"]), temperature=0.7)
    assert main(["compare", str(sampled), "published:s2d", "--as", "demo-s=vicuna-7b"]) == 2
    assert "the run was at 0.7" in capsys.readouterr().err


def test_markdown_holds_every_block_and_note(six: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    assert main(["compare", str(six), "--against", "ar", "--out", str(out)]) == 0
    text = out.read_text()
    assert text.startswith("# Relative to ar\n\n## t\n\n| Decoder | QA | All [95 %] | MAT |\n")
    low, high = ends_of_three_copies(5, 5.6, 4.4, (4, 16))
    assert f"| sd | 5.00 | 5.00 [{low:.2f}–{high:.2f}, n = 6] | 2.40 |" in text
    assert "- Decode tokens/s over those of ar" in text


MISTAKES = {
    "nothing to compare with": ([], "compare needs a second run, published:PAPER or --against LABEL"),
    "both": (["published:s2d", "--against", "ar"], "give one of them, not both"),
    "an unknown paper": (["published:s2dd"], "unknown paper 's2dd'. Did you mean 's2d'"),
    "a label not in the run": (["--against", "sdd"], "unknown decoder 'sdd'. Did you mean 'sd'?"),
    "no such run": (["no/such/run"], "no/such/run: no such folder"),
    "nothing in common": (["published:mtad"], "nothing in common: one has sd; published:mtad has"),
    "no model of the paper": (
        ["published:spec-bench", "--as", "sd=SpS"],
        "To set them side by side all the same: --as t=vic",
    ),
    "a stand-in for none": (["published:s2d", "--as", "u=vicuna-7b"], "unknown target or decoder of the run 'u'"),
    "a stand-in without a paper": (["--against", "ar", "--as", "t=x"], "--as t=x: belongs to a comparison with publ"),
    "a format that is none": (["--against", "ar", "--out", "x.xlsx"], "--out x.xlsx: give a file that ends in .csv or"),
    "a folder that is none": (["--against", "ar", "--out", "none/x.csv"], "there is no folder none"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_bad_input_is_one_line(run: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    words, message = MISTAKES[case]
    assert main(["compare", str(run), *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err and captured.err.count("\n") == 1


def test_a_run_without_ar_is_one_line(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = write_run(tmp_path / "bare", [r for r in paper_run() if r.label == "sd"])
    for words in ([str(bare), str(run)], [str(bare), "published:s2d"]):
        assert main(["compare", *words]) == 2
        assert "bare: no finished 'ar' in this run" in capsys.readouterr().err
