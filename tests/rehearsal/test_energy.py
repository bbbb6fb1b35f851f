"""Energy on the rehearsed device, whose NVML replays known watts: a run meters its windows by default."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from specbench_s2d.analysis.metrics import energy
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.cli.main import main
from specbench_s2d.measure.energy import choose, windows
from specbench_s2d.measure.energy.block import IDLE_S
from specbench_s2d.measure.energy.nvml import NvmlMeter
from specbench_s2d.runs.folder import read_records
from tests.measure.nvml import FakeNvml
from tests.rehearsal.counts import Counts

IDLE_W, BUSY_W = 60.0, 200.0
TOLERANCE = 0.15  # a busy machine may pause between a reading of the counter and of the clock


class Board(NvmlMeter):
    """A GPU that draws `IDLE_W` while the idle power is measured, for which nobody waits, and `BUSY_W` ever after.

    `sensed`: what its power sensor reads, over what it draws.
    """

    def __init__(self, device: str, sensed: float = 1.0) -> None:
        assert device == "cuda"
        self._skipped_s, self._idle_until_s = 0.0, math.inf
        began_s = time.perf_counter()

        def clock() -> float:
            return time.perf_counter() - began_s + self._skipped_s

        def at_work_s() -> float:
            return max(0.0, clock() - self._idle_until_s)

        nvml = FakeNvml(
            power_w=lambda uuid: sensed * (BUSY_W if at_work_s() else IDLE_W),
            energy_mj=lambda uuid: round(1000 * (IDLE_W * (clock() - at_work_s()) + BUSY_W * at_work_s())),
        )
        super().__init__(["GPU-rehearsed"], nvml.open, every_s=0.002, clock=clock)

    def sleep(self, seconds: float) -> None:
        self._skipped_s += seconds
        if seconds == IDLE_S:
            self._idle_until_s = self.clock()


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models are done in milliseconds, and the replayed counter is exact at any."""
    monkeypatch.setattr(windows, "SHORTEST_WINDOW_S", 0.0)
    monkeypatch.setattr(energy, "MIN_BLOCK_S", 0.001)


def run(folder: Path, out: Path) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    models = ("--target", str(folder / "tiny-target"), "--draft", str(folder / "tiny-draft"), "--decoder", "ar,sd")
    work = ("--questions", "embedded", "--suite", "qa", "--limit", "2", "--max-new-tokens", "32", "--ignore-eos")
    device = ("--device", "cuda", "--dtype", "float32")
    assert main(["run", *device, *models, *work, "--out", str(out)]) == 0
    lines = (out / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], pd.read_csv(out / "summary.csv")


def test_a_run_meters_its_windows_by_default_and_gives_no_energy_of_too_short_ones(
    counts: Counts, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(choose.OPENERS, "nvml", Board)  # type: ignore[arg-type]
    records, table = run(tiny_models, tmp_path / "run")
    assert len(records) == 4
    for record in records:
        assert record["energy_s"] >= record["total_s"] > 0
        assert record["energy_j"] == pytest.approx(BUSY_W * record["energy_s"], rel=TOLERANCE)
        assert record["energy_net_j"] == pytest.approx((BUSY_W - IDLE_W) * record["energy_s"], rel=TOLERANCE)
        assert record["energy_trace_j"] == pytest.approx(BUSY_W * record["energy_s"])
    for label, rows in table[table["suite"] == "overall"].groupby("label"):
        of_label = [r for r in records if r["label"] == label]
        seconds_per_token = sum(r["energy_s"] for r in of_label) / sum(r["new_tokens"] for r in of_label)
        for column, watts in (("energy_j_per_token", BUSY_W), ("energy_net_j_per_token", BUSY_W - IDLE_W)):
            assert rows[column].item() == pytest.approx(watts * seconds_per_token, rel=TOLERANCE)
        assert abs(rows["energy_disagreement"].item()) < TOLERANCE
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["energy"] == {"meter": "nvml", "reason": None}
    assert manifest["idle_power_w"] == pytest.approx(IDLE_W, rel=TOLERANCE)
    samples = manifest["targets"]["tiny-target"]["power_samples"]
    assert samples["windows"] == 4 and samples["clocks_mhz"]["sm"] == [1755, 1755]
    monkeypatch.setattr(energy, "MIN_BLOCK_S", 500.0)
    short = summary_table(read_records(tmp_path / "run"))
    assert short["energy_j_per_token"].isna().all() and short["tokens_per_joule"].isna().all()
    said = r"energy_j_per_token: its timed windows add up to \d\.\d s, energy is given from 500 s on"
    assert short["notes"].str.contains(said).all()


def test_a_sensor_that_reads_a_quarter_less_is_told_everywhere(
    counts: Counts,
    tiny_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(choose.OPENERS, "nvml", lambda device: Board(device, sensed=0.75))  # type: ignore[arg-type]
    out = tmp_path / "run"
    _, table = run(tiny_models, out)
    said = "energy counter and sampled power differ by more than 10 % (ar on qa "
    assert said in " ".join(capsys.readouterr().out.split())
    assert all("energy_j_per_token: energy counter and sampled power differ" in note for note in table["notes"])
    for page in ("summary.md", "report.html"):
        assert said in (out / page).read_text(encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "200")  # a row of the table is one line
    main(["check", str(out), "--baseline", str(out), "--speed", "skip"])
    checks = " ".join(capsys.readouterr().out.split())
    assert "energy 2 rows not judged" in checks.replace("│", " ")
