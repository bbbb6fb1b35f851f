"""Which device holds what: levelled over the GPUs, drafts on the first; who is short is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from specbench_s2d.errors import ModelError
from specbench_s2d.models.memory import MemoryPlan
from specbench_s2d.models.placement import check_fits, max_memory, shares
from tests.refusals import refused

GB = 10**9
TARGET = MemoryPlan("target", 100 * GB, 10 * GB, 0, 2 * GB, block_bytes=2 * GB)
DRAFT = MemoryPlan("draft", 8 * GB, 1 * GB, 2 * GB, 1 * GB)


def levels(free: dict[str, int], *plans: MemoryPlan) -> list[int]:
    return [round(share.level_bytes / GB, 1) for share in shares(plans, free)]


def gpus(*free: int) -> dict[str, int]:
    return {f"cuda:{index}": size * GB for index, size in enumerate(free)}


def test_equal_gpus_get_equal_shares() -> None:
    assert levels(gpus(80, 80), TARGET) == [50.0, 50.0]
    assert levels(gpus(80, 80, 80, 80), TARGET) == [25.0] * 4


def test_the_first_gpu_takes_less_where_the_drafts_leave_it_less() -> None:
    """Of 60 the draft holds 12 and passes 2: 46, of which 100/110 are for weights (the rest is their cache), 41.8; less
    a layer, which is never split, 39.8."""
    assert levels(gpus(60, 80), TARGET, DRAFT) == [39.8, 60.2]


def test_unequal_gpus_are_levelled() -> None:
    """24 - 2 = 22, times 100/110 is 20, less a layer 18; the two others share the 82 that are left."""
    assert levels(gpus(80, 24, 80), TARGET) == [41.0, 18.0, 41.0]


def test_transformers_gets_a_layer_above_the_level_and_another_on_the_first_gpu() -> None:
    """By hand: 50 and a layer of 2, and 2 that transformers keeps free on the first; 20 where there is no more room."""
    assert max_memory([TARGET], gpus(80, 80)) == {0: 54 * GB, 1: 52 * GB}
    assert max_memory([TARGET], gpus(80, 24, 80)) == {0: 45 * GB, 1: 20 * GB, 2: 43 * GB}


def test_what_does_not_fit_names_the_gpu_that_is_short_and_why() -> None:
    check_fits([TARGET, DRAFT], "auto", gpus(80, 80))
    with refused(
        ModelError,
        "--device auto: target has 100.0 GB of weights, an equal share of 50.0 on each of 2 GPUs",
        "draft 12.0 GB (weights 8.0, cache 1.0",
        "room on cuda:1 has 24.0 free (drafts 0.000, passes 2.0, leaving 20.0",
        "or more GPUs",
    ):
        check_fits([TARGET, DRAFT], "auto", gpus(80, 24))
    with refused(ModelError, "cuda:0 has 50.0 free (drafts 12.0, passes 2.0, leaving 32.7"):
        check_fits([TARGET, DRAFT], "auto", gpus(50, 70))


def test_the_sum_of_all_gpus_is_not_what_counts() -> None:
    """146 GB are needed and 150 are free, but the draft's 34 do not fit on the first one."""
    check_fits([TARGET], "auto", gpus(10, 120))
    with refused(ModelError, "too little room on cuda:0 has 20.0 free (drafts 34.0"):
        check_fits([TARGET, replace(DRAFT, weights_bytes=30 * GB)], "auto", gpus(20, 130))


def test_one_device_holds_everything() -> None:
    check_fits([TARGET, DRAFT], "cuda:1", {"cuda:1": 124 * GB})
    with refused(
        ModelError, "--device cuda:1: 123.9 GB are free, and 124.0 GB are needed", "target 112.0", "draft 12.0"
    ):
        check_fits([TARGET, DRAFT], "cuda:1", {"cuda:1": 1239 * GB // 10})


def test_what_loading_needs_does_not_come_on_top_of_the_cache_and_graphs() -> None:
    assert replace(TARGET, loading_bytes=11 * GB).total_bytes == 112 * GB
    assert replace(TARGET, loading_bytes=13 * GB).total_bytes == 113 * GB


@pytest.mark.parametrize(
    "free", [(100, 100), (100, 100, 100), (60, 200), (200, 45, 200), (45, 200, 200), (200, 20, 20)]
)
def test_transformers_own_map_is_what_the_plan_says(free: tuple[int, ...]) -> None:
    """Layers of a real model, sizes alone: nothing is left over, no GPU gets more than its room, and none more than a
    layer beyond its level."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.integrations.accelerate import _get_device_map

    sizes = {"hidden_size": 64, "intermediate_size": 172, "vocab_size": 500, "num_attention_heads": 4}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=30))
    block = max(sum(p.nbytes for p in model.model.layers[0].parameters()), model.lm_head.weight.nbytes)
    weights = sum(p.nbytes for p in model.parameters())
    target = MemoryPlan("llama", weights, weights // 10, 0, weights // 50, block_bytes=block)
    draft = MemoryPlan("draft", weights // 8, 0, 0, 0)
    have = {f"cuda:{index}": weights * size // 100 for index, size in enumerate(free)}
    check_fits([target, draft], "auto", have)
    placed = _get_device_map(model, "sequential", max_memory([target, draft], have), None)
    assert set(placed.values()) == set(range(len(free)))
    for index, share in enumerate(shares([target, draft], have)):
        names = [name for name, place in placed.items() if place == index]
        held = sum(p.nbytes for n, p in model.named_parameters() if any(n.startswith(f"{one}.") for one in names))
        assert held <= share.room_bytes
        assert held <= share.level_bytes + block
