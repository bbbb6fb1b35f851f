"""How many graphs a model can ask for, what they take, and what was really taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from specbench_s2d.decoding.spec import parse_decoders
from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import Identity, PassKind
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.engines.graph_keys import GraphKey, GraphKind, buckets
from specbench_s2d.models.engines.layer import PLAIN
from specbench_s2d.models.engines.static_pass import StaticPass
from specbench_s2d.models.graph_memory import (
    COMPILED_LAYER_LAUNCHES,
    LAUNCH_BYTES,
    PASS_LAUNCHES,
    PLAIN_LAYER_LAUNCHES,
    GraphNeeds,
    check_graphs_fit,
    measure_graphs,
    with_graph_bytes,
)
from specbench_s2d.models.llama import LlamaModel
from specbench_s2d.models.load import tensor_reader
from specbench_s2d.models.memory import pool_bytes, static_bytes
from specbench_s2d.models.resolve import load_tokenizer, resolve_model
from specbench_s2d.models.shapes import random_weights
from specbench_s2d.models.tensors import tensor_shapes
from specbench_s2d.models.weights import Weights, load_weights
from tests.models.captured import RerunningCapture, _Recorder, graph_engine
from tests.models.peak import Peak
from tests.refusals import refused

LENGTHS = 5
"""Of a cache of 1,024 positions: 128, 256, 512, 768 and 1,024."""
TRIED_BESIDE_CHAINS = 9
"""What a trial captures beside chains of 1, 2 and 5 rows, which it does in the first length and the last: there too a
tree of three rows, the lower layers, the upper ones and the likeliest tokens; and the head alone, which attends to
nothing."""


def needs(*passes: PassKind, depth: int = 32) -> GraphNeeds:
    return GraphNeeds.of(passes, depth)


def test_the_count_is_kinds_times_rows_times_lengths() -> None:
    """Up to 6 rows there are six numbers of rows; up to 10, nine (the last is 16); up to 64, eleven; twelve in all."""
    assert needs(PassKind(6)).count(1024) == 6 * LENGTHS + TRIED_BESIDE_CHAINS
    assert needs(PassKind(61)).count(1024) == 11 * LENGTHS + TRIED_BESIDE_CHAINS
    assert needs(PassKind(500)).count(1024) == 12 * LENGTHS + TRIED_BESIDE_CHAINS  # wider passes run eagerly
    stages = needs(PassKind(6), PassKind(10, 0, 2, best=1), PassKind(10, 2, 9, best=1), PassKind(8, from_layer=32))
    assert stages.count(1024) == (6 + 2 * 9) * LENGTHS + 8 + TRIED_BESIDE_CHAINS - 1  # the head was tried with 2 rows
    assert needs(PassKind(6, least=6)).count(1024) == LENGTHS + 3 * 2 + TRIED_BESIDE_CHAINS  # 1, 2 and 5 were tried
    assert needs(PassKind(1)).count(1024) == LENGTHS + 2 * 2 + TRIED_BESIDE_CHAINS  # chains of 2 and 5 rows were tried


def test_a_mask_is_counted_once_as_wide_as_it_grows() -> None:
    """As one of 64, 128, 256 or 512 columns; a wider one runs eagerly."""
    chains = needs(PassKind(6)).count(1024)
    for seen in (1, 64, 65, 300, 512, 5000):
        masked = needs(PassKind(6), PassKind(4, seen=seen)).count(1024)
        tried = 2 if seen <= 64 else 0  # three rows under a narrow mask, at both ends
        assert masked - chains == 4 * LENGTHS - tried, seen
    assert needs(PassKind(6), PassKind(6), PassKind(2)).count(1024) == chains


def test_a_short_cache_has_one_length_and_a_shallow_model_no_upper_layers() -> None:
    """Both rounds of a trial then meet the same graphs; of one layer the lower half is the whole, to its states."""
    assert needs(PassKind(6)).count(120) == 6 + 5
    assert needs(PassKind(6), depth=1).count(120) == 6 + 4


def test_bytes_are_launches_times_what_one_takes() -> None:
    """Chains of up to 5 rows and an exit at layer 4 of 12; the trial's halves have 6 layers each."""
    asked = needs(PassKind(5), PassKind(8, 0, 4, best=1), PassKind(1, from_layer=12), depth=12)
    layers = LENGTHS * (5 * 12 + 8 * 4) + 2 * (12 + 6 + 6 + 12)  # then a tree, two halves, the likeliest, twice
    graphs = LENGTHS * 13 + 2 + 2 * 4  # the head of one row, that of two which was tried
    assert asked.count(1024) == graphs
    plain = layers * PLAIN_LAYER_LAUNCHES + graphs * PASS_LAUNCHES
    assert asked.recorded_bytes(1024) == plain * LAUNCH_BYTES
    compiled = replace(asked, compiled=True).recorded_bytes(1024)
    assert plain * LAUNCH_BYTES - compiled == layers * (30 - COMPILED_LAYER_LAUNCHES) * LAUNCH_BYTES
    assert replace(asked, graph_bytes=1000).recorded_bytes(1024) == 1000 * graphs


def test_the_widest_graph_is_one_that_is_asked_for_or_tried() -> None:
    assert needs(PassKind(1)).widest_rows == 5
    assert needs(PassKind(1), PassKind(11, seen=4)).widest_rows == 16
    assert needs(PassKind(200)).widest_rows == 96


def test_one_graph_of_a_large_model_is_of_the_size_that_other_engines_report() -> None:
    """Llama 3.2 1B in vLLM: 0.21 GiB for 35 graphs of 16 layers, fused by hand into about 11 launches each."""
    theirs = 0.21 * 2**30 / 35
    assert 0.9 < (16 * 11 + 5) * LAUNCH_BYTES / theirs < 1.1


@pytest.mark.parametrize("best", [0, 10])
@pytest.mark.parametrize("columns", [0, 64])
def test_a_pass_launches_no_more_than_is_planned(columns: int, best: int) -> None:
    """Operations of a recorded pass that are no views, against those planned for a layer and around them: 33 there for
    the likeliest tokens under a mask."""
    passes = static_pass("shape:demo-m", torch.device("cpu"))
    counts = []
    for layers in (4, 8):
        kind = GraphKind(False, 0, layers, False, not best, best, columns)
        passes.allocate(kind)
        with torch.inference_mode(), _Recorder() as recorder:
            passes.compute(GraphKey(kind, 8, 512))
        counts.append(sum(not is_view(func) for func, *_ in recorder.calls))
    per_layer = (counts[1] - counts[0]) / 4
    assert 20 < per_layer <= PLAIN_LAYER_LAUNCHES
    around = counts[0] - 4 * per_layer
    assert around <= PASS_LAUNCHES and (around == PASS_LAUNCHES) == bool(columns and best)


def is_view(func: torch._ops.OpOverload) -> bool:
    returns = [given.alias_info for given in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returns)


def unmade(config: Any, dtype: torch.dtype) -> Weights:
    """Weights that are sizes alone."""
    shapes = tensor_shapes(config)
    return lambda tensor: torch.empty(shapes[tensor], device="meta", dtype=dtype)


def static_pass(name: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> StaticPass:
    config = resolve_model(name).config
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
    config = resolve_model(name).config
    passes = static_pass(name, torch.device("meta"))
    kept = [value for value in vars(passes).values() if isinstance(value, torch.Tensor)]
    made = sum(tensor.nbytes for tensor in [*kept, *passes.masks.values()])
    assert 0.9 * static_bytes(config, torch.bfloat16) <= made <= static_bytes(config, torch.bfloat16)


@pytest.mark.parametrize("rows", [8, 64])
def test_a_captured_pass_works_in_what_the_pool_is_planned_for(rows: int) -> None:
    """Sizes alone, over 4,096 positions: with a tree (61 rows come to 64) and without."""
    name = "shape:llama-2-70b"
    passes, config = static_pass(name, torch.device("meta")), resolve_model(name).config
    with torch.inference_mode(), Made() as made:
        passes.compute(GraphKey(GraphKind(False, 0, 2, False, True, 0, 64), rows, 4096))
    assert 0.3 < made.bytes / pool_bytes(config, torch.bfloat16, rows, 4160) < 1


class Made(Peak):
    """The most bytes of what is made inside the block: views of weights, cache and buffers are left out."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if all(given.alias_info is None for given in func._schema.returns):
            return super().__torch_dispatch__(func, types, args, kwargs)
        return func(*args, **(kwargs or {}))


def graphed(name: str) -> LlamaModel:
    found, device = resolve_model(name), torch.device("cpu")
    reader = tensor_reader(found, device, torch.float32)
    identity, engine = Identity(name), graph_engine(RerunningCapture())
    tokenizer = load_tokenizer(name)
    return LlamaModel(identity, found.config, reader, tokenizer, frozenset(), device, torch.float32, engine)


DECODERS = (
    "ar",
    "sd",
    "sd:exit=2",
    "s2d",
    "s2d-tree",
    "s2d-auto",
    "mjsd",
    "mjsd:candidates=4",
    "mjsd:draft_temperature=1",
    "mjgd",
    "sd:gamma=heuristic",
    "s2d+joint",
)


@pytest.mark.parametrize("decoder", DECODERS)
def test_no_decoder_captures_another_number_of_graphs_than_its_models_are_planned_for(decoder: str) -> None:
    """Exactly those that are planned, before anything is decoded, and no more however it goes."""
    (spec,) = parse_decoders([decoder])
    target, draft = graphed("demo-tiny"), None if spec.kind.draft_kind == "none" else graphed("demo-draft")
    built, asked = spec.build(target, draft), [(target, spec.kind.target_passes(spec.options))]
    if draft:
        asked.append((draft, spec.kind.draft_passes(spec.options, draft)))
    built.make_ready(54)
    for run in (False, True):
        if run:
            built.generate(list(range(20, 50)), 24, ignore_eos=True)
        for model, passes in asked:
            facts, planned = model.engine_facts, GraphNeeds.of(passes, model.depth)
            assert facts["graphs"] == facts["captures"] == planned.count(facts["buckets"][-1]) > 0
            assert (facts["unannounced"], facts["buckets"]) == (0, list(buckets(facts["buckets"][-1])))


def test_what_several_decoders_use_is_counted_once() -> None:
    chain, tree = needs(PassKind(6)), needs(PassKind(6), PassKind(61, seen=61))
    assert needs(PassKind(6), PassKind(61, seen=61), PassKind(4), PassKind(6)).keys(1024) == tree.keys(1024)
    assert chain.keys(1024) < tree.keys(1024)


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
    assert facts["graph_bytes_measured"] is None and "released memory" in facts["graph_bytes_measured_reason"]


def test_graphs_that_will_not_fit_are_refused_after_the_first() -> None:
    check_graphs_fit("big", taken_bytes=50_000_000, captured=2, left=40, free_bytes=1_000_000_000)
    with refused(ModelError, "big: 2 CUDA graphs took 0.050 GB", "the 41 that are left", "1.025 GB", "--engine eager"):
        check_graphs_fit("big", taken_bytes=50_000_000, captured=2, left=41, free_bytes=1_000_000_000)


def test_an_engine_that_does_not_say_what_its_graphs_took_says_why() -> None:
    told = {"captures": 3, "graph_bytes_measured": 70}
    assert with_graph_bytes(told) == told
    captured, other = with_graph_bytes({"captures": 3}), with_graph_bytes({"engine": "eager"})
    assert captured["graph_bytes_measured"] is other["graph_bytes_measured"] is None
    assert "not measured" in captured["graph_bytes_measured_reason"]
    assert "no CUDA graphs" in other["graph_bytes_measured_reason"]
