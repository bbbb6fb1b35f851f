"""The dry run's figures: per target, with the drafts and the template that it would get."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from specbench_s2d.bench import forecast as module
from specbench_s2d.bench.blocks import LOADING_S
from specbench_s2d.bench.forecast import forecast
from specbench_s2d.bench.plan import make_plan
from specbench_s2d.cli.live import forecast_table
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.measure.energy.choose import OFF, MeterChoice
from tests.measure.energy.replay import Recording, ReplayMeter, VirtualClock
from tests.refusals import refused
from tests.tiny_run import tiny_spec


@pytest.fixture
def spec(tiny_models: Path, tiny_opt: Path, monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    monkeypatch.setattr(module, "read_rate", lambda device, buffer_bytes: 1e9)
    llama, opt = str(tiny_models / "tiny-target"), str(tiny_opt / "tiny-opt")
    drafts = [f"{llama}={tiny_models / 'tiny-draft'}", f"{opt}={tiny_opt / 'tiny-opt-draft'}"]
    return RunSpec(**tiny_spec(tiny_models, ["ar,sd"], target=[llama, opt], draft=drafts))


def test_each_target_stands_with_its_draft_and_template(spec: RunSpec) -> None:
    expected = forecast(make_plan(spec))
    rows = {Path(row["target"]).name: row for row in expected["targets"]}
    assert rows["tiny-target"]["drafts"] == ["tiny-draft"]
    assert rows["tiny-opt"]["drafts"] == ["tiny-opt-draft"]
    assert (rows["tiny-target"]["template"], rows["tiny-opt"]["template"]) == ("tokenizer", "plain")
    assert expected["cells"] == sum(row["cells"] for row in rows.values()) == 8
    console = Console(width=200, record=True)
    console.print(forecast_table(expected))
    text = console.export_text()
    assert all(name in text for name in ("tiny-draft", "tiny-opt-draft", "plain", "decoders: ar, sd"))


def test_memory_is_told_of_target_and_draft_part_by_part(spec: RunSpec, tiny_opt: Path) -> None:
    expected = forecast(make_plan(spec))
    row = expected["targets"][1]
    target, draft = row["memory"]
    assert (target["name"], draft["name"]) == ("tiny-opt", "tiny-opt-draft")
    assert target["weights_bytes"] == (tiny_opt / "tiny-opt" / "model.safetensors").stat().st_size
    assert target["cache_bytes"] == 2 * 3 * 32 * 512 * 4  # keys and values, 3 layers, width 32, one step, float32
    assert row["memory_bytes"] == target["total_bytes"] + draft["total_bytes"]
    assert row["memory_bytes"] < expected["free_bytes"]
    console = Console(width=200, record=True)
    console.print(forecast_table(expected))
    text = console.export_text()
    assert f"{row['memory_bytes'] / 1e9:.3f}" in text
    assert re.search(rf"tiny-opt +{target['working_bytes'] / 1e9:.3f}", text) and "memory, GB" in text
    assert f"{expected['free_bytes'] / 1e9:.1f} GB are free" in text
    assert "graphs" not in text and "loading" not in text, "what takes less than a megabyte is left out"


def test_a_pair_that_does_not_fit_is_said_before_anything_is_loaded(spec: RunSpec, tiny_models: Path) -> None:
    wrong = [f"{target}={tiny_models / 'tiny-draft'}" for target in spec.target]
    with refused(ModelError, "tiny-opt", "tiny-draft", "token ids must mean the same"):
        forecast(make_plan(spec.model_copy(update={"draft": wrong})))


def test_the_energy_pass_is_named_with_its_meter_and_its_least_time(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = ReplayMeter(Recording([0, 1], [0, 0], [0, 0]), VirtualClock())
    monkeypatch.setattr(module, "choose_meter", lambda kind, device: MeterChoice(meter))
    asked = {"repeats": 3, "energy": "auto", "energy_blocks": True}
    expected = forecast(make_plan(spec.model_copy(update=asked)))
    blocks = 2 * 2 * 1 * 3  # targets, labels, suites, repeats
    assert expected["energy"] == {"meter": "replay", "reason": None, "blocks": blocks, "least_s": blocks * 5 + 5}
    assert "energy: replay, in a pass of its own: 12 blocks, at least 65 s on top" in shown(expected)


def test_windows_metered_while_they_are_timed_cost_the_idle_power_alone(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = ReplayMeter(Recording([0, 1], [0, 0], [0, 0]), VirtualClock())
    monkeypatch.setattr(module, "choose_meter", lambda kind, device: MeterChoice(meter))
    expected = forecast(make_plan(spec))
    assert expected["energy"] == {"meter": "replay", "reason": None, "blocks": 0, "least_s": 5}
    assert "energy: replay, beside the timed windows; idle power: 5 s on top" in shown(expected)


def shown(expected: dict[str, Any]) -> str:
    console = Console(width=200, record=True)
    console.print(forecast_table(expected))
    return console.export_text()


def test_a_run_without_a_meter_has_no_pass_and_the_reason_is_shown(spec: RunSpec) -> None:
    assert forecast(make_plan(spec))["energy"] == {"meter": None, "reason": OFF, "blocks": 0, "least_s": 0}
    with refused(UserError, "--energy nvml"):
        forecast(make_plan(spec.model_copy(update={"energy": "nvml"})))


def test_on_several_devices_blocks_memory_and_time_are_told(spec: RunSpec) -> None:
    plan = make_plan(spec)
    expected = forecast(plan, 2)
    on, rows = expected["workers"], {row["target"]: row for row in expected["targets"]}
    assert on["count"] == 2 and on["blocks"] == sum(on["blocks_by_target"].values()) == 4  # one question each
    assert sorted(target for loaded in on["targets_by_worker"] for target in loaded) == sorted(plan.targets)
    assert on["memory_bytes_by_worker"] == [rows[loaded[0]]["memory_bytes"] for loaded in on["targets_by_worker"]]
    assert on["expected_s"] > LOADING_S and 0 <= on["idle_share"] < 1
    console = Console(width=200, record=True)
    console.print(forecast_table(expected))
    assert "2 workers: 4 blocks" in console.export_text() and "workers" not in forecast(plan)
