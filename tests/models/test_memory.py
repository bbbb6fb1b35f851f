"""The memory plan: what a model will take, exactly where the config says it, and one line where that is too much."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from specbench_s2d.errors import ModelError
from specbench_s2d.models import load as load_module
from specbench_s2d.models.base import PassKind
from specbench_s2d.models.demo import demo_names
from specbench_s2d.models.graph_memory import GraphNeeds
from specbench_s2d.models.load import load_model
from specbench_s2d.models.memory import MemoryPlan, plan_memory, row_bytes
from specbench_s2d.models.placement import check_fits
from specbench_s2d.models.resolve import ResolvedModel, resolve_model
from tests.models.peak import Peak
from tests.models.test_shapes import on_meta
from tests.refusals import refused

ALONE, CHAIN, TREE = PassKind(1), PassKind(6, least=6), PassKind(61, seen=61, least=61)
"""What ar, sd and s2d-tree ask of a target."""
CHAINS = GraphNeeds.of([ALONE, CHAIN], 80, compiled=True)
TREES = GraphNeeds.of([ALONE, CHAIN, TREE], 80, compiled=True)
ANY_WIDTH = GraphNeeds.of([PassKind(64), PassKind(64, seen=64)], 80)


def plan(
    name: str, dtype: torch.dtype = torch.bfloat16, positions: int = 1, graphs: GraphNeeds | None = None
) -> MemoryPlan:
    found = resolve_model(name)
    return plan_memory(found, dtype, positions, graphs)


@pytest.mark.parametrize("name", [*demo_names(), "shape:demo-s", "shape:demo-draft"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_exactly_what_is_loaded(name: str, dtype: str) -> None:
    found = resolve_model(name)
    planned = plan_memory(found, getattr(torch, dtype), on_host=True)
    assert planned.weights_bytes == load_model(name, "cpu", dtype).parameter_bytes


@pytest.mark.parametrize("name", ["vicuna-7b", "vicuna-33b", "llama-2-70b", "llama-3.2-1b", "s2d-draft"])
def test_weights_of_large_shapes_are_exact_too(name: str) -> None:
    assert plan(f"shape:{name}").weights_bytes == on_meta(name).parameter_bytes


def test_another_familys_weights_are_what_its_files_hold(tiny_opt: Path) -> None:
    model = load_model(str(tiny_opt / "tiny-opt"), "cpu", "bfloat16")
    found = resolve_model(str(tiny_opt / "tiny-opt"))
    stated = plan_memory(found, torch.bfloat16, on_host=True).weights_bytes
    assert model.parameter_bytes <= stated < 1.1 * model.parameter_bytes  # the files' headers come on top


def test_the_cache_is_what_the_positions_need_and_at_most_the_context() -> None:
    per_position = 2 * 80 * 8 * 128 * 2  # keys and values, layers, key-value heads, head width, bfloat16
    for asked, room in ((1, 512), (512, 512), (513, 1024), (4096, 4096), (100_000, 4096)):
        assert plan("shape:llama-2-70b", positions=asked).cache_bytes == room * per_position


def test_graphs_are_counted_where_there_are_any() -> None:
    eager, graphs = (plan("shape:llama-2-70b", positions=4096, graphs=given) for given in (None, CHAINS))
    assert (eager.graphs_bytes, eager.pool_bytes, eager.graphs) == (0, 0, 0)
    assert (graphs.graphs, graphs.facts()["graphs_bytes"]) == (31, graphs.graphs_bytes)
    assert "graphs 1.4, pool" in str(graphs) and "31 CUDA graphs, estimated" in str(graphs)
    assert "graphs" not in str(eager)


def test_70b_by_hand() -> None:
    """Llama-2 70B as published: 80 layers, width 8,192, 64 heads over 8 key-value heads of 128, 28,672, 32,000 ids,
    4,096 positions, bfloat16. The cache has 96 positions more for rows that graphs are rounded up by."""
    config = resolve_model("shape:llama-2-70b").config
    sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.num_key_value_heads)
    assert sizes == (80, 8192, 64, 8)
    assert (config.intermediate_size, config.vocab_size, config.max_position_embeddings) == (28_672, 32_000, 4096)
    attention = 8192 * 8192 + 2 * 8192 * 1024 + 8192 * 8192
    layer = attention + 3 * 8192 * 28_672 + 2 * 8192
    chains, trees = (plan("shape:llama-2-70b", positions=4096, graphs=given) for given in (CHAINS, TREES))
    for planned in (chains, trees):
        assert planned.weights_bytes == 2 * (80 * layer + 2 * 32_000 * 8192 + 8192) == 137_953_296_384
        assert planned.cache_bytes == 2 * 80 * 8 * 128 * (4096 + 96) * 2 == 1_373_634_560
        # A row: 4 hidden states, query to value, 3 of the feed-forward in bfloat16; logits there and twice in float32.
        row = 2 * (4 * 8192 + (64 + 2 * 8) * 128 + 3 * 28_672) + 32_000 * (2 + 4 + 4)
        assert planned.working_bytes == 4096 * row == 2_367_684_608
        tables, masks, logits = 2 * 4096 * 128 * 2, 96 * (64 + 128 + 256 + 512), 96 * 32_000 * 4
        assert planned.buffers_bytes == tables + masks + logits + 2 * 96 * 8192 * 2 + (3 * 96 + 2) * 8
        assert planned.loading_bytes == 2 * 28_672 * 8192 * 2  # gate and up beside their concatenation
        assert planned.block_bytes == 2 * layer
    # 9 lengths (128, 256, 512, 768, 1,024, 1,536, 2,048, 3,072, 4,096) of 1 row and of 6, of a tree's 61 as 64. In the
    # first length and the last the trial takes chains of 2 and 5 rows, a tree of 3 rows, two halves of the layers, and
    # the likeliest tokens; and once the head. A graph: 16 launches a layer and 33 around them, 36 KiB each.
    assert chains.graphs == 2 * 9 + 2 * 2 + 2 + 2 * 2 + 2 + 1 == 31
    assert trees.graphs == 31 + 9 == 40
    one, half, head = ((layers * 16 + 33) * 36 * 1024 for layers in (80, 40, 0))
    assert chains.graphs_bytes == (18 + 8) * one + 4 * half + head == 1_358_917_632
    assert trees.graphs_bytes == (27 + 8) * one + 4 * half + head == 1_794_539_520
    # A pool: rows, and for each of 64 heads three tables of rows by cache, for the mask two of the 8 rows of a group.
    for planned, rows in ((chains, 6), (trees, 64)):
        scores = (3 * 64 + 2 * 8) * rows * 4192 * 2
        assert planned.pool_bytes == rows * row + scores + 2 * 32 * 2**20
    assert [round(planned.total_bytes / 1e9, 1) for planned in (chains, trees)] == [143.2, 143.7]


def test_70b_in_bfloat16_with_a_draft_fits_one_gpu_of_141_gb_but_not_with_graphs_of_any_width_and_not_one_of_80() -> (
    None
):
    both = [plan(name, positions=4096) for name in ("shape:llama-2-70b", "shape:vicuna-68m")]
    free = 149_000_000_000  # of the 140.4 GiB that the driver reports, what a bare process leaves
    check_fits(both, "cuda", {"cuda": free})
    with refused(
        ModelError,
        "--device cuda: 80.0 GB are free",
        "shape:llama-2-70b",
        "weights 138.0, cache 1.3",
        "working 2.4, buffers 0.002, loading 0.940",
        "shape:vicuna-68m",
        "--max-new-tokens",
        "--device auto",
    ):
        check_fits(both, "cuda", {"cuda": 80_000_000_000})
    check_fits([plan("shape:llama-2-70b", positions=4096, graphs=TREES)], "cuda", {"cuda": free})
    # 11 numbers of rows, 9 lengths, chains and trees; beside them the trial's halves, likeliest tokens and head.
    assert ANY_WIDTH.count(4096) == 2 * 11 * 9 + 7
    with refused(ModelError, "pool 0.216", "205 CUDA graphs, estimated", "--engine eager"):
        check_fits([plan("shape:llama-2-70b", positions=4096, graphs=ANY_WIDTH)], "cuda", {"cuda": free})


def test_on_a_cpu_a_half_precision_head_is_float32() -> None:
    """Llama-2 70B: 32,000 ids of width 8,192, four bytes each in place of two."""
    found = resolve_model("shape:llama-2-70b")
    for dtype, more in ((torch.bfloat16, 32_000 * 8192 * 2), (torch.float32, 0)):
        host, gpu = (plan_memory(found, dtype, on_host=on_host) for on_host in (True, False))
        assert host.weights_bytes - gpu.weights_bytes == more


def test_a_shard_that_is_read_whole_is_counted_where_it_is_read(tmp_path: Path) -> None:
    """The two matrices of a layer that lie beside their concatenation, and on the host the largest file."""
    found = with_shards(tmp_path, {"pytorch_model-1.bin": 5000, "pytorch_model-2.bin": 7000})
    parts = 2 * found.config.intermediate_size * found.config.hidden_size * 2
    host, device = (plan_memory(found, torch.bfloat16, on_host=on_host) for on_host in (True, False))
    assert (host.loading_bytes, device.loading_bytes) == (parts + 7000, parts)


def with_shards(folder: Path, sizes: dict[str, int]) -> ResolvedModel:
    """A model of demo-tiny's config whose weight files are of these names and sizes."""
    shutil.copy(resolve_model("demo-tiny").folder / "config.json", folder)
    for name, size in sizes.items():
        (folder / name).write_bytes(bytes(size))
    index = {"weight_map": {f"tensor {name}": name for name in sizes}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    return resolve_model(str(folder))


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
    config = resolve_model("shape:llama-2-70b").config
    config.vocab_size = 0
    assert 0.5 < (peak.bytes - before) / (2048 * row_bytes(config, torch.bfloat16)) <= 1


def test_working_memory_grows_with_the_positions() -> None:
    few, many = (plan("shape:vicuna-7b", positions=positions).working_bytes for positions in (512, 4096))
    config = resolve_model("shape:vicuna-7b").config
    assert many - few == (4096 - 512) * row_bytes(config, torch.bfloat16)


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "free_by_device", lambda device: {device: 10_000_000})
    monkeypatch.setattr(load_module, "LlamaModel", lambda *a: pytest.fail("nothing may be loaded"))
    with refused(ModelError, "device='cpu': 0.010 GB are free", "shape:vicuna-7b", "weights 13.7"):
        load_model("shape:vicuna-7b", "cpu", "bfloat16")


def test_a_quantised_checkpoints_weights_are_its_files(tmp_path: Path) -> None:
    source = resolve_model("demo-tiny").folder
    folder = Path(shutil.copytree(source, tmp_path / "quantised"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    size = (folder / "model.safetensors").stat().st_size
    for dtype in (torch.float32, torch.bfloat16):
        assert plan(str(folder), dtype).weights_bytes == size
