"""The memory plan: what a model will take, exactly where the config says it, and one line where that is too much."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from specbench_s2d.errors import ModelError
from specbench_s2d.models import load as load_module
from specbench_s2d.models.checkpoint import demo_names, find_checkpoint
from specbench_s2d.models.load import load_model, read_config
from specbench_s2d.models.memory import MemoryPlan, check_fits, plan_memory, row_bytes
from tests.models.peak import Peak
from tests.models.test_shapes import on_meta
from tests.refusals import refused


def plan(name: str, dtype: torch.dtype = torch.bfloat16, positions: int = 1, graphs: bool = False) -> MemoryPlan:
    found = find_checkpoint(name)
    return plan_memory(found, read_config(found), dtype, positions, graphs)


@pytest.mark.parametrize("name", [*demo_names(), "shape:demo-s", "shape:demo-draft"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_exactly_what_is_loaded(name: str, dtype: str) -> None:
    assert plan(name, getattr(torch, dtype)).weights_bytes == load_model(name, "cpu", dtype).parameter_bytes


@pytest.mark.parametrize("name", ["vicuna-7b", "vicuna-33b", "llama-2-70b", "llama-3.2-1b", "s2d-draft"])
def test_weights_of_large_shapes_are_exact_too(name: str) -> None:
    assert plan(f"shape:{name}").weights_bytes == on_meta(name).parameter_bytes


def test_another_familys_weights_are_what_its_files_hold(tiny_opt: Path) -> None:
    model = load_model(str(tiny_opt / "tiny-opt"), "cpu", "bfloat16")
    stated = plan(str(tiny_opt / "tiny-opt")).weights_bytes
    assert model.parameter_bytes <= stated < 1.1 * model.parameter_bytes  # the files' headers come on top


def test_the_cache_is_what_the_positions_need_and_at_most_the_context() -> None:
    per_position = 2 * 80 * 8 * 128 * 2  # keys and values, layers, key-value heads, head width, bfloat16
    for asked, room in ((1, 512), (512, 512), (513, 1024), (4096, 4096), (100_000, 4096)):
        assert plan("shape:llama-2-70b", positions=asked).cache_bytes == room * per_position


def test_graphs_are_counted_where_there_are_any() -> None:
    eager, graphs = (plan("shape:llama-2-70b", positions=4096, graphs=on) for on in (False, True))
    assert eager.graphs_bytes == 0
    assert 1e8 < graphs.graphs_bytes < 2e9
    assert graphs.total_bytes - eager.total_bytes == graphs.graphs_bytes
    assert "graphs" in str(graphs) and "graphs" not in str(eager)


def test_70b_in_bfloat16_with_a_draft_fits_one_gpu_of_141_gb_and_not_one_of_80() -> None:
    both = [plan(name, positions=4096, graphs=True) for name in ("shape:llama-2-70b", "shape:vicuna-68m")]
    free = 149_000_000_000  # of the 140.4 GiB that the driver reports, what a bare process leaves
    check_fits(both, free, "cuda")
    with refused(
        ModelError,
        "--device cuda: 80.0 GB are free",
        "shape:llama-2-70b",
        "weights 138.0, cache 1.3",
        "shape:vicuna-68m",
        "--max-new-tokens",
        "--device auto",
    ):
        check_fits(both, 80_000_000_000, "cuda")


@pytest.mark.parametrize("name", ["demo-l", "vicuna-7b", "llama-2-70b", "llama-3.1-8b"])
def test_a_whole_prompt_with_all_its_logits_stays_within_the_plan(name: str) -> None:
    """Run on the device without memory, where only sizes are kept: loading, then a prompt pass of 2,048 positions."""
    with Peak() as peak:
        model = on_meta(name)
        model.extend(torch.zeros(1, 2048, dtype=torch.long, device="meta"))
    planned = plan(f"shape:{name}", positions=2048)
    assert peak.bytes <= planned.total_bytes
    assert planned.total_bytes - planned.weights_bytes < 4 * (peak.bytes - planned.weights_bytes)  # and not far above


def test_a_layer_works_in_what_its_rows_are_planned_to_take() -> None:
    """Logits left out: they are most of a small model's working memory, and would hide the rest."""
    with Peak() as peak:
        model = on_meta("llama-2-70b")
        model.reserve(2048)
        before = peak.bytes
        model.extend(torch.zeros(1, 2048, dtype=torch.long, device="meta"), to_layer=2)
    config = read_config(find_checkpoint("shape:llama-2-70b"))
    config.vocab_size = 0
    assert 0.5 < (peak.bytes - before) / (2048 * row_bytes(config, torch.bfloat16)) <= 1


def test_working_memory_grows_with_the_positions() -> None:
    few, many = (plan("shape:vicuna-7b", positions=positions).working_bytes for positions in (512, 4096))
    config = read_config(find_checkpoint("shape:vicuna-7b"))
    assert many - few == (4096 - 512) * row_bytes(config, torch.bfloat16)


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "free_bytes", lambda device: 10_000_000)
    monkeypatch.setattr(load_module, "LlamaModel", lambda *a: pytest.fail("nothing may be loaded"))
    with refused(ModelError, "--device cpu: 0.010 GB are free", "shape:vicuna-7b", "weights 13.5"):
        load_model("shape:vicuna-7b", "cpu", "bfloat16")


def test_a_quantised_checkpoints_weights_are_its_files(tmp_path: Path) -> None:
    source = find_checkpoint("demo-tiny").folder
    folder = Path(shutil.copytree(source, tmp_path / "quantised"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    size = (folder / "model.safetensors").stat().st_size
    for dtype in (torch.float32, torch.bfloat16):
        assert plan(str(folder), dtype).weights_bytes == size
