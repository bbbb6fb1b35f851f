"""Names are data: whatever a model, a decoder, a question or a suite is called, no output of any command acts on it.

A command or a file that is new is found by `test_every_command_is_tried`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from specbench_s2d.analysis.report.plots import draw
from specbench_s2d.cli.main import app, main
from specbench_s2d.measure.divergence import Divergence
from specbench_s2d.runs.record import SCHEMA_VERSION, Record
from tests.analysis.factory import ar, decoded, make_record
from tests.hostile import NAMES, check_file, check_text

FIRST = NAMES[0]
LABELS = (*NAMES[:3], "".join(NAMES[3:]))
"""All of the names, in few labels and suites: every row of a table takes time."""


def records() -> list[Record]:
    """A run of two targets: AR, and a decoder of each label, one turn of which failed; all names are hostile."""
    found = []
    for target in (f"{FIRST} {NAMES[3]}", f"org/{NAMES[1]}"):
        for number, name in enumerate(LABELS):
            given: dict[str, Any] = {"target": target, "suite": f"custom/{name}", "category": name, "output_text": name}
            question = f"{number} {name}"
            found.append(ar(question, 5, decode_s=4, nll_sum=3, **given))
            for label in LABELS:
                told = {**given, "draft": name, "decoder_options": {"tree": name}, "quality": {"f1": 0.5}}
                told |= {"divergence": Divergence(verdict="mismatch", position=0)}
                found.append(decoded(label, question, [(5, 1, 2), (5, 1, 2)], decode_s=2, nll_sum=4, **told))
        found += [make_record(label, "failed", target=target, status="failed", error=label) for label in LABELS]
    return found


def write_run(folder: Path) -> Path:
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in records()))
    settings = {"temperature": 0.0, "device": FIRST, "dtype": "float32"}
    condition = {"at": FIRST, "launch": 0, "about": FIRST, "what": NAMES[1], "advice": NAMES[3], "unfit": True,
                 "transient": True}  # fmt: skip
    engine = {"engine": NAMES[1], "why_eager": NAMES[1]}
    manifest = {
        "run_id": "r", "cells": 1,
        "schema_version": SCHEMA_VERSION, "started": "2026-01-01T00:00:00+00:00", "conditions": [condition],
        "identity": {"settings": settings, "decoders": ["ar", *LABELS], "questions": {FIRST: "0" * 64}},
        "environment": {"gpu": {"name": NAMES[1]}, "cpu": {"model": FIRST}},
        "targets": {FIRST: {"sources": {FIRST: {"said": NAMES[1]}}, "engines": {FIRST: engine}}},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def question_file(folder: Path) -> Path:
    path = folder / "questions.jsonl"
    rows = [{"question_id": name, "category": "own", "turns": [name], "reference": name} for name in NAMES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


COMMANDS: dict[str, list[list[str]]] = {
    "report": [["RUN", "--safe-csv", "--out", "OUT/page.html"]],
    "compare": [
        ["RUN", "OTHER", "--out", "OUT/runs.csv", "--safe-csv"], ["RUN", "OTHER", "--out", "OUT/runs.md"],
        ["RUN", "--against", FIRST, "--out", "OUT/decoders.csv", "--safe-csv"],
        ["RUN", "--against", FIRST, "--out", "OUT/decoders.md"], ["RUN", "OTHER", "--json"],
        ["RUN", "published:s2d", "--as", f"{FIRST} {NAMES[3]}=vicuna-7b", "--as", f"{NAMES[1]}=S2D"],
        ["RUN", "--against", NAMES[1][::-1]],
    ],
    "check": [
        ["RUN", "--baseline", "OTHER", "--markdown", "OUT/check.md", "--junit", "OUT/check.xml"],
        ["RUN", "--baseline", "RUN", "--json"],
    ],
    "export": [
        *(["RUN", "--format", form, "--out", f"OUT/{form}"] for form in ("spec-bench", "parquet", "latex", "markdown")),
        ["RUN", "--format", "csv", "--out", "OUT/csv", "--safe-csv"], ["RUN", "--format", NAMES[1], "--out", "OUT/x"],
    ],
    "import": [[NAMES[1], "--out", "OUT/imported"]],
    "merge": [["RUN", "OTHER", "--out", "OUT/merged"], [FIRST, NAMES[3], "--out", "OUT/merged"]],
    "suites": [
        ["--questions", "QUESTIONS"], ["custom/own", "--questions", "QUESTIONS"],
        ["custom/own", "--questions", "QUESTIONS", "--json"], [NAMES[1]],
    ],
    "run": [
        ["--target", NAMES[1]], ["--decoder", NAMES[1]], ["--suite", NAMES[1]], ["--questions", NAMES[1]],
        ["--device", NAMES[1]], [NAMES[1]], [f"--{NAMES[1]}"],
    ],
    "project": [["--target", NAMES[1], "--draft", FIRST, "--acceptance", "RUN"]],
    "models": [["pull", NAMES[1]]],
    "env": [["--device", NAMES[1]]],
    "decoders": [[NAMES[1]]],
    "train": [
        ["sft", "--data", NAMES[1], "--source", FIRST, "--out", "OUT/trained"],
        ["lm", "--data", FIRST, "--out", "OUT/t"],
        ["tokenizer", "--data", NAMES[1], "--out", "OUT/tokens"], [NAMES[1]],
    ],
}  # fmt: skip
"""The words behind each command: results of runs that hold hostile names, and mistakes that hold them."""


def test_every_command_is_tried() -> None:
    root: Any = typer.main.get_command(app)
    assert set(COMMANDS) == set(root.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_name_acts_in_any_output(
    command: str, pictures: None, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(draw, "FORMATS", ("svg",))
    monkeypatch.setattr(draw, "PLOTS", draw.PLOTS[:1])  # the first has labels, suites and targets
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "out" / "job.md"))
    (tmp_path / "out").mkdir()
    places = {"RUN": run, "OTHER": write_run(tmp_path / "other"), "OUT": tmp_path / "out"}
    places |= {"QUESTIONS": question_file(tmp_path)}
    for words in COMMANDS[command]:
        filled = [re.sub("^(RUN|OTHER|OUT|QUESTIONS)", lambda found: str(places[found[0]]), word) for word in words]
        assert main([command, *filled]) in (0, 1, 2, 3)
        captured = capsys.readouterr()
        for stream in captured:
            check_text(stream, f"{command} {words}")
            assert not stream.startswith("error: unexpected")
    for folder in (run, tmp_path / "out"):
        for path in folder.rglob("*"):
            if path.is_file() and path.parent.name != "spec-bench":
                check_file(path, safe_csv=True)


def test_names_are_printed_as_they_are(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    shown = capsys.readouterr().out
    assert FIRST in shown and r"\x1b[31mred\x1b]0;title\x07 \x9b1m back\x08 \u202egpj.exe" in shown
    assert r"line\nbreak\r\ttab" in shown and NAMES[3] in shown
