"""`specbench-s2d run` from the flag to the folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from specbench_s2d.bench import launches, ray_workers
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.runner import Outcome, execute
from specbench_s2d.cli.main import main
from specbench_s2d.cli.run import execute_and_print
from specbench_s2d.measure.divergence import Divergence
from tests.bench.test_launches import here
from tests.tiny_run import tiny_plan


@pytest.fixture
def grid(tiny_models: Path) -> list[str]:
    given = [
        "--target",
        str(tiny_models / "tiny-target"),
        "--draft",
        str(tiny_models / "tiny-draft"),
        "--device",
        "cpu",
        "--energy",
        "off",
    ]
    return ["run", *given, "--questions", "embedded", "--suite", "qa", "--limit", "2", "--max-new-tokens", "8"]


def test_a_run_leaves_records_manifest_tables_and_plots(
    pictures: None, grid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*grid, "--out", str(out), "--decoder", "ar,sd"]) == 0
    captured = capsys.readouterr()
    assert "tiny-target" in captured.out and "sd" in captured.out
    assert "4/4 cells" in captured.err
    for name in ("records.jsonl", "manifest.json", "summary.csv", "summary.md"):
        assert (out / name).stat().st_size > 0
    assert {path.suffix for path in (out / "plots").iterdir()} == {".png", ".svg"}
    table = pd.read_csv(out / "summary.csv")
    assert set(table["suite"]) == {"qa", "overall"}
    assert set(table.loc[table["label"] == "ar", "mat"]) == {1.0}


def test_json_prints_the_tidy_table_and_nothing_else(
    grid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*grid, "--out", str(tmp_path / "run"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(("tokens a step promise" in (row["why"] or "")) == (row["label"] != "ar") for row in rows)
    assert {row["label"] for row in rows} == {"ar", "sd"}
    assert all(row["target"] == "tiny-target" for row in rows)


def test_a_dry_run_prints_cells_memory_and_time_and_writes_nothing(
    grid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*grid, "--dry-run", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    assert expected["cells"] == 4
    assert expected["targets"][0]["memory_bytes"] > 0
    assert expected["expected_s"] > 0
    assert main([*grid, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "4 cells" in shown and "energy: not metered: --energy off" in shown
    assert os.listdir(tmp_path) == []


def test_without_out_the_folder_is_new_under_results_runs(
    grid: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(grid) == 0
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 1


def test_the_same_fields_come_from_a_run_file(grid: list[str], tiny_models: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        f'target = ["{tiny_models / "tiny-target"}"]\ndraft = ["{tiny_models / "tiny-draft"}"]\ndevice = "cpu"\n'
        'energy = "off"\nquestions = "embedded"\nsuite = "qa"\nlimit = 2\nmax_new_tokens = 8\n'
    )
    assert main([*grid, "--out", str(tmp_path / "flags")]) == 0
    assert main(["run", str(file), "--out", str(tmp_path / "file")]) == 0
    flags, from_file = (json.loads((tmp_path / n / "manifest.json").read_text())["spec"] for n in ("flags", "file"))
    assert flags == from_file


def test_no_ignore_eos_wins_over_a_run_file(
    grid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.toml"
    file.write_text("ignore_eos = true\n")
    for flags, expected in (([], True), (["--no-ignore-eos"], False), (["--ignore-eos"], True)):
        out = tmp_path / f"run{len(flags)}{expected}"
        assert main([*grid, str(file), "--decoder", "ar", "--limit", "1", "--out", str(out), *flags]) == 0
        assert json.loads((out / "manifest.json").read_text())["spec"]["ignore_eos"] is expected


@pytest.fixture
def finished(tiny_models: Path, tmp_path: Path) -> tuple[Plan, Outcome]:
    """A small plan, executed."""
    plan = tiny_plan(tiny_models, [], limit=1)
    return plan, execute(plan, tmp_path / "run")


def test_ctrl_c_says_how_to_go_on(finished: tuple[Plan, Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    plan, outcome = finished

    def interrupted(watch: Any) -> Outcome:
        raise KeyboardInterrupt

    assert execute_and_print(plan, outcome.folder, interrupted) == 130
    assert f"go on with the same command and --out {outcome.folder}" in capsys.readouterr().err


def test_what_is_asked_for_reaches_the_launches(
    grid: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}

    def interrupted(plan: Plan, folder: Path, watch: Any, **given: Any) -> Outcome:
        told.update(given, folder=folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(launches, "run_launches", interrupted)
    assert main([*grid, "--retry-failed", "--strict", "--out", str(tmp_path / "run")]) == 130
    assert told == {"folder": tmp_path / "run", "retry_failed": True, "strict": True, "launcher": None}


@pytest.mark.parametrize(
    ("changed", "exit_code"),
    [
        ({}, 0),
        ({"status": "failed", "error": "MemoryError: no memory left"}, 1),
        ({"divergence": Divergence(verdict="near_tie", position=1)}, 0),
        ({"divergence": Divergence(verdict="mismatch", position=1)}, 1),
    ],
)
def test_a_failed_cell_or_a_mismatch_makes_the_exit_code_1(
    finished: tuple[Plan, Outcome], changed: dict[str, Any], exit_code: int
) -> None:
    plan, outcome = finished
    *others, last = outcome.records

    def done(watch: Any) -> Outcome:
        return Outcome(outcome.folder, [*others, last.model_copy(update=changed)])

    assert execute_and_print(plan, outcome.folder, done) == exit_code
    failed = pd.read_csv(outcome.folder / "summary.csv").set_index(["label", "suite"])["failed"]
    assert failed[last.label, "qa"] == (changed.get("status") == "failed")


def test_a_bad_question_file_stops_before_a_folder_is_made(
    grid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question_id": 1, "category": "qa", "turns": ["x"]}\n{"question_id": 2, "turns"\n')
    flags = [word for word in grid if word not in ("--questions", "embedded")]
    assert main([*flags, "--questions", str(file), "--out", str(tmp_path / "run")]) == 2
    assert "questions.jsonl:2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_shapes_run_from_the_flag_to_the_tables_without_a_question_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    models = ["--target", "shape:demo-s", "--draft", "shape:demo-draft-sft", "--draft", "shape:demo-draft"]
    given = ["run", *models, "--decoder", "ar,sd,s2d", "--ignore-eos", "--limit", "1", "--suite", "qa"]
    rest = ["--max-new-tokens", "12", "--device", "cpu", "--energy", "off"]
    assert main([*given, *rest, "--out", str(out)]) == 0
    assert "shape:demo-s" in capsys.readouterr().out
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert {(r["target"], r["label"], r["draft"]) for r in records} == {
        ("shape:demo-s", "ar", None),
        ("shape:demo-s", "sd", "shape:demo-draft-sft"),
        ("shape:demo-s", "s2d", "shape:demo-draft"),
    }
    assert {(r["status"], r["new_tokens"], r["stop"]) for r in records} == {("ok", 12, "length")}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["targets"]["shape:demo-s"]["random_weights"]
    assert manifest["identity"]["weights"].keys() == {"shape:demo-s", "shape:demo-draft-sft", "shape:demo-draft"}


def test_a_dry_run_of_a_model_that_is_not_here_tells_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["run", "--target", "shape:llama-2-70b", "--draft", "shape:vicuna-68m", "--dtype", "bfloat16"]
    assert main([*given, "--limit", "1", "--device", "cpu", "--energy", "off", "--dry-run", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: --device cpu: "), "as the run would say, once its figures are printed"
    target, draft = json.loads(captured.out)["targets"][0]["memory"]
    head_bytes = 32_000 * 8_192 * 4  # float32 on a CPU, where the rest is 2 bytes an entry
    assert (target["name"], target["weights_bytes"]) == ("shape:llama-2-70b", 137_953_296_384 + head_bytes // 2)
    assert draft["name"] == "shape:vicuna-68m"


def test_a_dry_run_names_launches_and_counts_their_cells(grid: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*grid, "--decoder", "ar,sd", "--launches", "3", "--dry-run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "12 cells on cpu" in shown and "2 questions, 3 launches; decoders: ar, sd" in shown


def test_a_run_of_several_launches_says_so_in_its_table(
    grid: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launches, "in_fresh_process", here)
    out = tmp_path / "run"
    assert main([*grid, "--decoder", "ar", "--launches", "2", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "launch 2 of 2" in captured.err and "4/4 cells" in captured.err
    assert "from n questions and 2 launches" in " ".join(captured.out.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--devices", "9999"], "--devices 9999: this process may use"),
        (["--devices", "two"], "--devices: give all, a list of numbers"),
        (["--devices", "0.5", "--ray"], "--devices: give all, a list of numbers"),
        (["--ray", "--devices", "3"], "--devices 3: the Ray cluster has 2 CPUs on 1 nodes"),
        (["--ray-address", "auto", "--devices", "0,1"], "--devices 0,1: Ray places the workers"),
        (
            ["--allow-mixed"],
            "--allow-mixed: is about several workers; give --devices or --ray with it, or leave it out.",
        ),
    ],
)
def test_devices_that_are_not_there_end_in_one_line(
    grid: list[str],
    given: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False}])
    monkeypatch.setattr(ray_workers, "connect", lambda address: cluster)
    assert main([*grid, *given, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
