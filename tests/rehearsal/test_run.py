"""A whole benchmark run on the rehearsed device, from the command line to the report and the gate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from specbench_s2d import load_model
from specbench_s2d.cli.main import main
from specbench_s2d.measure.pass_costs import pass_costs
from tests.rehearsal.counts import Counts
from tests.tiny import write_padded

DECODERS = ("ar", "sd", "sd:draft=tiny-draft,exit=2", "s2d-tree", "s2d-auto", "mjsd:candidates=4")
DEMO = ("ar", "s2d-tree", "mjsd:candidates=4")


def run(out: Path, device: str, *more: str, code: int = 0) -> list[dict[str, Any]]:
    given = ("--device", device, "--dtype", "float32", "--questions", "embedded", "--out", str(out), "--energy", "off")
    assert main(["run", *given, *more]) == code
    return [json.loads(line) for line in (out / "records.jsonl").read_text(encoding="utf-8").splitlines()]


def tiny(folder: Path, decoders: tuple[str, ...]) -> Iterator[str]:
    for flag, name in (("--target", "tiny-target"), ("--draft", "tiny-nested"), ("--draft", "tiny-draft")):
        yield from (flag, str(folder / name))
    for decoder in decoders:
        yield from ("--decoder", decoder.replace("tiny-draft", str(folder / "tiny-draft")))
    yield from ("--suite", "qa", "--limit", "1", "--max-new-tokens", "8")


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return found


def ids(records: list[dict[str, Any]]) -> dict[tuple[str, ...], list[int]]:
    return {(r["target"], r["label"], r["suite"], r["question_id"], r["turn"]): r["output_ids"] for r in records}


def test_from_the_command_line_to_the_report_and_the_gate(
    counts: Counts, tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    records = run(there, "cuda", *tiny(tiny_models, DECODERS))
    assert {r["status"] for r in records} == {"ok"} and len(records) == len(DECODERS)
    assert {r["divergence"]["verdict"] for r in records if not r["lossy"]} == {"identical"}
    target = manifest(there)["targets"]["tiny-target"]
    assert {engine["engine"] for engine in target["engines"].values()} == {"cuda-graphs"}
    assert not [found for found in manifest(there)["conditions"] if found["about"] == "the engine"]
    assert main(["report", str(there), "--out", str(tmp_path / "page.html")]) == 0
    table = pd.read_csv(there / "summary.csv")
    assert set(table["label"]) >= {"ar", "sd", "s2d-tree"} and (table["tokens_per_s"] > 0).all()
    assert ids(run(tmp_path / "here", "cpu", *tiny(tiny_models, DECODERS))) == ids(records)
    assert main(["check", str(there), "--baseline", str(there), "--speed", "skip"]) == 0


def test_padded_models_held_to_transformers_emit_no_padding(counts: Counts, tiny_models: Path, tmp_path: Path) -> None:
    padding = {"tiny-target": 19, "tiny-draft": 3}
    target, draft = (str(write_padded(tiny_models / name, tmp_path / name, rows)) for name, rows in padding.items())
    flags = ("--target", target, "--draft", draft, "--decoder", "ar,sd", "--suite", "qa", "--limit", "1")
    flags += ("--max-new-tokens", "24", "--ignore-eos", "--temperature", "1", "--verify-forward")
    records = run(tmp_path / "run", "cuda", *flags)
    assert max(max(r["output_ids"]) for r in records) < 320 and {r["status"] for r in records} == {"ok"}
    facts = manifest(tmp_path / "run")["targets"]["tiny-target"]
    assert {engine["engine"] for engine in facts["engines"].values()} == {"cuda-graphs"}
    for name, rows in padding.items():
        found = facts["checkpoints"][name]
        assert found["padding_rows"] == rows and found["forward_check"]["checked"]


@pytest.mark.slow
def test_a_demo_target_writes_what_it_does_on_the_cpu(counts: Counts, tmp_path: Path) -> None:
    flags = ["--target", "demo-s", "--suite", "qa", "--limit", "1", "--max-new-tokens", "8"]
    flags += [part for decoder in DEMO for part in ("--decoder", decoder)]
    there, here = (ids(run(tmp_path / device, device, *flags)) for device in ("cuda", "cpu"))
    assert len(there) == len(DEMO)
    assert there == here


@pytest.mark.slow
def test_a_target_spread_over_two_devices_writes_what_it_does_on_the_cpu(
    two_devices: Counts, tiny_models: Path, tmp_path: Path
) -> None:
    decoders = ("ar", "s2d-tree")
    there, here = (run(tmp_path / device, device, *tiny(tiny_models, decoders)) for device in ("auto", "cpu"))
    assert ids(there) == ids(here)
    assert manifest(tmp_path / "auto")["targets"]["tiny-target"]["forward"] == "transformers (device map)"


@pytest.mark.slow
def test_pass_costs_are_measured_there(counts: Counts) -> None:
    target, draft = (load_model(name, "cuda", "float32") for name in ("demo-s", "demo-draft"))
    costs = pass_costs(target, draft, range(1, 5), context=32, rounds=2)
    passes = [costs.ar, *costs.verify.values(), *(stage.warm for stage in costs.stages)]
    assert len(passes) == 1 + 4 + 3
    assert all(cost.median_s > 0 and len(cost.rounds_s) == 2 for cost in passes)
