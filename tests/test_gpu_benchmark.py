"""`benchmarks/gpu.py` on a CPU with small shapes: what it writes, and that a row that fails stops no other."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from types import ModuleType

import pytest

SMALL = [
    *("--device", "cpu", "--dtype", "float32", "--target", "shape:demo-s", "--draft", "shape:demo-tiny"),
    *("--nested", "shape:demo-draft", "--prompt-tokens", "24", "--new-tokens", "6", "--rounds", "1", "--others", "12"),
]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "benchmarks"))
    return importlib.import_module("gpu")


def figures_of(gpu: ModuleType, out: Path, *rows: str) -> list[dict[str, object]]:
    gpu.main([*SMALL, "--out", str(out), "--rows", *rows])
    measured: list[dict[str, object]] = json.loads(out.read_text(encoding="utf-8"))["rows"]
    return measured


def test_rows_are_measured_and_held_to_what_is_to_be_reached(gpu: ModuleType, tmp_path: Path) -> None:
    rows = figures_of(gpu, tmp_path / "new" / "gpu.json", "ar", "verify", "draft", "eager", "growth")
    assert [row["row"] for row in rows] == ["ar", "verify", "draft", "eager", "growth"]
    for row in rows:
        assert row["error"] is None, row
        assert isinstance(row["value"], float) and row["value"] > 0
        reached = eval(f"{row['value']} {row['to_reach']}")
        assert row["reached"] is reached
    assert rows[0]["engines"]["target"]["engine"] in ("eager", "graphs")  # type: ignore[index]


def test_a_row_that_fails_or_takes_too_long_says_so_and_the_next_one_runs(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(setting: object) -> dict[str, object]:
        raise MemoryError("12 GiB wanted\nand more")

    def sleep(setting: object) -> dict[str, object]:
        time.sleep(60)
        return {"value": 1.0}

    rows = [
        gpu.Row("ar", "one that fails", fail, 1, True, 60),
        gpu.Row("verify", "one that sleeps", sleep, 1, True, 0.05),
        gpu.Row("draft", "one that is well", lambda setting: {"value": 1.0}, 1, True, 60),
    ]
    monkeypatch.setattr(gpu, "ROWS", rows)
    monkeypatch.setattr(gpu, "_LEAST_S", 0.01)
    out = tmp_path / "gpu.json"
    assert gpu.main([*SMALL, "--out", str(out)]) == 1
    failed, slept, well = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert failed["error"] == "MemoryError: 12 GiB wanted" and failed["reached"] is None
    assert slept["error"].startswith("OutOfTimeError: given up after")
    assert (well["error"], well["reached"]) == (None, True)
    assert capsys.readouterr().out.count("\n") == 3


def test_published_acceptances_are_the_papers(gpu: ModuleType) -> None:
    assert gpu.rows.published_mat() == 2.86
