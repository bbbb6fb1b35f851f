"""How many graphs a model can ask for, what they take, and what was really taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from specbench_s2d.bench.memory import kinds_of_draft, kinds_of_target
from specbench_s2d.bench.plan import Lane
from specbench_s2d.decoding.spec import parse_decoders
from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import Identity
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.checkpoint import find_checkpoint, tensor_reader
from specbench_s2d.models.graph_memory import (
    COMPILED_LAYER_LAUNCHES,
    LAUNCH_BYTES,
    PASS_LAUNCHES,
    PLAIN_LAYER_LAUNCHES,
    GraphNeeds,
    Kinds,
    check_graphs_fit,
    draft_kinds,
    measure_graphs,
    most_kinds,
    target_kinds,
    with_graph_bytes,
)
from specbench_s2d.models.llama import LlamaModel
from specbench_s2d.models.load import load_tokenizer, read_config
from specbench_s2d.models.memory import pool_bytes, static_bytes
from specbench_s2d.models.passes.layer import PLAIN
from specbench_s2d.models.passes.shapes import Kind, Shape
from specbench_s2d.models.passes.static import StaticPass
from specbench_s2d.models.shapes import random_weights
from specbench_s2d.models.tensors import tensor_shapes
from specbench_s2d.models.weights import Weights, load_weights
from tests.models.captured import RerunningCapture, _Recorder, graph_engine
from tests.models.peak import Peak
from tests.refusals import refused


def test_the_count_is_kinds_times_rows_times_lengths() -> None:
    """Up to 1,024 positions: 128, 192, 256, 384, 512, 768 and 1,024 are seven lengths; up to 8 rows, eight numbers of
    rows; up to 64, seventeen. The head alone attends to nothing."""
    chains = GraphNeeds((Kinds(1, 32, 6),))
    assert chains.count(1024) == 8 * 7
    assert GraphNeeds((Kinds(1, 32, 61),)).count(1024) == 17 * 7
    assert GraphNeeds((Kinds(2, 64, 10), Kinds(1, 0, 1))).count(1024) == 2 * 9 * 7 + 8
    assert GraphNeeds((Kinds(1, 32, 500),)).count(1024) == 17 * 7  # wider passes run eagerly


def test_bytes_are_launches_times_what_one_takes() -> None:
    needs = GraphNeeds((Kinds(3, 12, 1), Kinds(1, 0, 1)))
    plain = 8 * 7 * (12 * PLAIN_LAYER_LAUNCHES + 3 * PASS_LAUNCHES) + 8 * PASS_LAUNCHES
    assert needs.recorded_bytes(1024) == plain * LAUNCH_BYTES
    compiled = GraphNeeds(needs.kinds, compiled=True).recorded_bytes(1024)
    assert plain * LAUNCH_BYTES - compiled == 8 * 7 * 12 * (30 - COMPILED_LAYER_LAUNCHES) * LAUNCH_BYTES
    assert GraphNeeds(needs.kinds, graph_bytes=1000).recorded_bytes(1024) == 1000 * (3 * 56 + 8)


def test_one_graph_of_a_large_model_is_of_the_size_that_other_engines_report() -> None:
    """Llama 3.2 1B in vLLM: 0.21 GiB for 35 graphs of 16 layers, fused by hand into about 11 launches each."""
    theirs = 0.21 * 2**30 / 35
    assert 0.9 < (16 * 11 + 5) * LAUNCH_BYTES / theirs < 1.1


@pytest.mark.parametrize("columns", [0, 64])
def test_a_pass_launches_no_more_than_is_planned(columns: int) -> None:
    """Operations of a recorded pass that are no views, against those planned for a layer and around them."""
    passes = static_pass("shape:demo-m", torch.device("cpu"))
    counts = []
    for layers in (4, 8):
        with torch.inference_mode(), _Recorder() as recorder:
            passes.compute(Shape(Kind(False, 0, layers, True, columns), 8, 512))
        counts.append(sum(not is_view(func) for func, *_ in recorder.calls))
    per_layer = (counts[1] - counts[0]) / 4
    assert 20 < per_layer <= PLAIN_LAYER_LAUNCHES
    assert counts[0] - 4 * per_layer <= PASS_LAUNCHES


def is_view(func: torch._ops.OpOverload) -> bool:
    returns = [given.alias_info for given in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returns)


def unmade(config: Any, dtype: torch.dtype) -> Weights:
    """Weights that are sizes alone."""
    shapes = tensor_shapes(config)
    return lambda tensor: torch.empty(shapes[tensor], device="meta", dtype=dtype)


def static_pass(name: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> StaticPass:
    config = read_config(find_checkpoint(name))
    weights = load_weights(
        unmade(config, dtype) if device.type == "meta" else random_weights(config, device, dtype),
        name,
        config,
        device,
        dtype,
    )
    cache = KVCache(len(weights.layers), weights.kv_heads, weights.head_width, 4160, device, dtype)
    cache.reserve(4160)
    return StaticPass(weights, cache, PLAIN)


@pytest.mark.parametrize("name", ["shape:demo-s", "shape:llama-3.2-1b"])
def test_static_buffers_are_what_is_made(name: str) -> None:
    config = read_config(find_checkpoint(name))
    passes = static_pass(name, torch.device("meta"))
    kept = [value for value in vars(passes).values() if isinstance(value, torch.Tensor)]
    made = sum(tensor.nbytes for tensor in [*kept, *passes._masks.values()])
    assert 0.9 * static_bytes(config, torch.bfloat16) <= made <= static_bytes(config, torch.bfloat16)


@pytest.mark.parametrize("rows", [8, 64])
def test_a_captured_pass_works_in_what_the_pool_is_planned_for(rows: int) -> None:
    """Sizes alone, over 4,096 positions: with a tree (61 rows come to 64) and without."""
    name = "shape:llama-2-70b"
    passes, config = static_pass(name, torch.device("meta")), read_config(find_checkpoint(name))
    with torch.inference_mode(), Made() as made:
        passes.compute(Shape(Kind(False, 0, 2, True, 64), rows, 4096))
    assert 0.3 < made.bytes / pool_bytes(config, torch.bfloat16, rows, 4160) < 1


class Made(Peak):
    """The most bytes of what is made inside the block: views of weights, cache and buffers are left out."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if all(given.alias_info is None for given in func._schema.returns):
            return super().__torch_dispatch__(func, types, args, kwargs)
        return func(*args, **(kwargs or {}))


def lanes_of(*decoders: str) -> list[Lane]:
    specs = parse_decoders(decoders)
    return [Lane(one, None if one.kind.draft_kind == "none" else "demo-draft") for one in specs]


def graphed(name: str) -> LlamaModel:
    found, device = find_checkpoint(name), torch.device("cpu")
    reader = tensor_reader(found, device, torch.float32)
    identity, engine = Identity(name, name), graph_engine(RerunningCapture())
    tokenizer = load_tokenizer(name)
    return LlamaModel(identity, read_config(found), reader, tokenizer, frozenset(), device, torch.float32, engine)


@pytest.mark.parametrize(
    "decoder",
    [
        "ar",
        "sd",
        "sd:exit=2",
        "s2d",
        "s2d-tree",
        "mjsd",
        "mjsd:candidates=4",
        "mjgd",
        "sd:gamma=heuristic",
        "s2d+joint",
    ],
)
def test_no_decoder_captures_more_graphs_than_its_models_are_planned_for(decoder: str) -> None:
    (lane,) = lanes = lanes_of(decoder)
    target, draft = graphed("demo-tiny"), graphed("demo-draft") if lane.draft else None
    lane.decoder.build(target, draft).generate(list(range(20, 50)), 24, ignore_eos=True)
    for model, name in ((target, "demo-tiny"), (draft, "demo-draft")):
        if model is not None:
            found = find_checkpoint(name)
            config = read_config(found)
            kinds = kinds_of_target(config, lanes) if model is target else kinds_of_draft(found, config, lanes)
            facts = model.engine_facts
            assert 0 < facts["graphs"] <= GraphNeeds(kinds).count(facts["buckets"][-1])


def test_what_several_decoders_use_is_counted_once() -> None:
    chain, tree = draft_kinds(12, 3, 0), draft_kinds(12, 3, 10)
    assert most_kinds([chain, tree, chain]) == tree
    assert most_kinds([target_kinds(8, 6, 0), target_kinds(8, 9, 61)]) == (Kinds(1, 8, 9), Kinds(1, 8, 61))
    both = most_kinds([draft_kinds(12, 0, 0), chain])
    assert set(both) == {*draft_kinds(12, 0, 0)[:1], *chain[:1], Kinds(1, 0, 64)}


def test_what_graphs_took_is_what_is_not_free_any_more() -> None:
    free = iter([10_000, 7_500])
    done: list[str] = []
    assert measure_graphs(lambda: done.append("captured"), lambda: next(free)) == {"graph_bytes_measured": 2500}
    assert done == ["captured"]


def test_what_nobody_can_tell_is_null_with_the_reason() -> None:
    done: list[str] = []
    facts = measure_graphs(lambda: done.append("captured"), None)
    assert done == ["captured"]
    assert facts["graph_bytes_measured"] is None and "CPU" in facts["graph_bytes_measured_reason"]
    free = iter([100, 200])
    facts = measure_graphs(lambda: None, lambda: next(free))
    assert facts["graph_bytes_measured"] is None and "gave memory back" in facts["graph_bytes_measured_reason"]


def test_graphs_that_will_not_fit_are_refused_after_the_first() -> None:
    check_graphs_fit("big", taken_bytes=50_000_000, captured=2, left=40, free_bytes=1_000_000_000)
    with refused(ModelError, "big: 2 CUDA graphs took 0.050 GB", "the 41 that are left", "1.025 GB", "--engine eager"):
        check_graphs_fit("big", taken_bytes=50_000_000, captured=2, left=41, free_bytes=1_000_000_000)


def test_an_engine_that_does_not_say_what_its_graphs_took_says_why() -> None:
    told = {"captures": 3, "graph_bytes_measured": 70}
    assert with_graph_bytes(told) == told
    captured, other = with_graph_bytes({"captures": 3}), with_graph_bytes({"engine": "eager"})
    assert captured["graph_bytes_measured"] is other["graph_bytes_measured"] is None
    assert "not metered" in captured["graph_bytes_measured_reason"]
    assert "no CUDA graphs" in other["graph_bytes_measured_reason"]
