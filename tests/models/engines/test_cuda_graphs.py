"""The CUDA graph engine computes what the eager one computes, whatever was captured before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbench_s2d.models.base import Identity, PassKind
from specbench_s2d.models.engines.choose import MakeEngine
from specbench_s2d.models.engines.compiled import VARIABLE, compiled_functions, why_not_compiled
from specbench_s2d.models.engines.cuda_graphs import CudaGraphEngine
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.graph_keys import MOST_ROWS, UNDECLARED_ROWS, GraphKind
from specbench_s2d.models.engines.trial import trial_keys
from specbench_s2d.models.llama import LlamaModel
from tests.models.captured import CountingBackend, RecordingCapture, RerunningCapture, graph_engine
from tests.models.reference import (
    assert_close,
    family_model,
    path_to,
    random_ids,
    random_tree,
    tree_mask,
)

FEW = ("llama", "llama, a key head per query head", "qwen2", "qwen3")


def twin(model: PreTrainedModel, engine: MakeEngine, layers: int | None = None) -> LlamaModel:
    """The model over an engine, or its first layers alone."""
    weights = model.state_dict()
    model.config.num_hidden_layers = layers or model.config.num_hidden_layers
    nobody: Any = None
    identity = Identity("random")
    device = torch.device("cpu")
    return LlamaModel(identity, model.config, weights.__getitem__, nobody, frozenset(), device, torch.float32, engine)


@pytest.fixture(scope="module", params=FEW)
def both(request: pytest.FixtureRequest) -> tuple[LlamaModel, LlamaModel]:
    """The graph engine with every kind of pass declared that the tests run, and the eager one."""
    model = family_model(request.param)
    ours, eager = twin(model, graph_engine()), twin(model, EagerEngine)
    ours.reserve(400)
    stages = [PassKind(8, to_layer=1), PassKind(8, 1, 2), PassKind(8, 2), PassKind(9, to_layer=3)]
    ours.prepare([PassKind(64), PassKind(40, seen=64), PassKind(3, seen=90), PassKind(64, from_layer=3), *stages])
    return ours, eager


@pytest.fixture
def pair(both: tuple[LlamaModel, LlamaModel]) -> tuple[LlamaModel, LlamaModel]:
    for model in both:
        model.reset()
    return both


def same(pair: tuple[LlamaModel, LlamaModel], *args: Any, **named: Any) -> tuple[Tensor, Tensor]:
    """The same pass of both engines, its results compared."""
    ours, eager = (model.extend(*args, **named) for model in pair)
    assert_close(ours, eager)
    assert pair[0].length == pair[1].length
    assert_graphs(pair[0])
    return ours, eager


def assert_graphs(model: LlamaModel) -> None:
    """No pass that could be a graph ran eagerly."""
    assert (model.engine, model.engine_facts["unannounced"]) == ("cuda-graphs", 0)


def test_chains_of_every_width_equal_eager(pair: tuple[LlamaModel, LlamaModel]) -> None:
    same(pair, random_ids(30))
    for width in (1, 6, 1, 9, 3, 64, 1, 65, 2):
        same(pair, random_ids(width, seed=width))


def test_a_rolled_back_draft_leaves_no_trace(pair: tuple[LlamaModel, LlamaModel]) -> None:
    same(pair, random_ids(20))
    for step in range(6):
        same(pair, random_ids(7, seed=step))
        for model in pair:
            model.rollback(21 + 2 * step)
        same(pair, random_ids(1, seed=40 + step))


def test_a_pass_across_a_bucket_boundary_equals_eager(pair: tuple[LlamaModel, LlamaModel]) -> None:
    same(pair, random_ids(124))
    for width in (3, 1, 1, 5, 58, 1, 6):  # 127, 128, 129, … 192, 193, 199
        same(pair, random_ids(width, seed=width))


def test_layer_ranges_hidden_inputs_and_the_head_equal_eager(pair: tuple[LlamaModel, LlamaModel]) -> None:
    same(pair, random_ids(15))
    waiting = [same(pair, random_ids(1, seed=s), to_layer=1) for s in range(3)]
    for ours, eager in waiting:  # later passes of the same graph must not have changed them
        assert_close(ours, eager)
    parts = [torch.cat(states, dim=1) for states in zip(*waiting, strict=True)]
    ours, eager = (m.extend(p, from_layer=1, to_layer=2) for m, p in zip(pair, parts, strict=True))
    assert_close(ours, eager)
    assert_close(pair[0].head(ours), pair[1].head(eager))
    ours, eager = (m.extend(h, from_layer=2) for m, h in zip(pair, (ours, eager), strict=True))
    assert_close(ours, eager)
    wide = torch.randn(1, MOST_ROWS + 1, pair[0].width)
    assert_close(pair[0].head(wide), pair[1].head(wide))


def test_last_only_equals_eager(pair: tuple[LlamaModel, LlamaModel]) -> None:
    ours, _ = same(pair, random_ids(12), last_only=True)
    assert ours.shape[1] == 1
    for width in (1, 4, 9):
        assert same(pair, random_ids(width, seed=width), last_only=True)[0].shape[1] == 1
        assert same(pair, random_ids(width, seed=width), to_layer=3, last_only=True)[0].shape[1] == 1


@pytest.mark.parametrize("nodes", [5, 7, 24, 40])
def test_trees_equal_eager_and_so_does_what_is_kept_of_them(pair: tuple[LlamaModel, LlamaModel], nodes: int) -> None:
    same(pair, random_ids(11))
    parents = random_tree(nodes)
    same(pair, random_ids(nodes, seed=5), mask=tree_mask(parents))
    for model in pair:
        model.keep_path(path_to(nodes - 1, parents), 11)
    same(pair, random_ids(3, seed=6))


def test_a_tree_over_an_empty_cache_and_levels_of_beams_equal_eager(pair: tuple[LlamaModel, LlamaModel]) -> None:
    """Level by level, each level's mask covers the levels before it: the last M positions, M above T."""
    same(pair, random_ids(1))
    mask_WM = torch.empty(3, 0, dtype=torch.bool)
    for level in range(30):  # the mask outgrows the first static one
        mask_WM = torch.cat((mask_WM[[2, 0, 0]], torch.eye(3, dtype=torch.bool)), dim=1)
        same(pair, random_ids(3, seed=level), mask=mask_WM)


def test_a_causal_mask_equals_eager(pair: tuple[LlamaModel, LlamaModel]) -> None:
    same(pair, random_ids(9))
    same(pair, random_ids(4), mask=torch.ones(4, 4, dtype=torch.bool).tril())


def test_a_cache_that_grows_drops_its_graphs_and_keeps_what_it_holds() -> None:
    model, capture = family_model("llama"), RecordingCapture()
    pair = twin(model, graph_engine(capture)), twin(model, EagerEngine)
    same(pair, random_ids(400))
    before = capture.recorded
    for step in range(30):
        same(pair, random_ids(1 + step % 3, seed=step))
    grown = pair[0].engine_facts
    assert grown["graphs"] < grown["captures"] == capture.recorded > before
    assert grown["buckets"][-1] == 1024 - MOST_ROWS


def test_what_a_trial_captures_is_what_is_counted_for_it() -> None:
    """Before anything else is asked for; with an upper and a lower half, and without."""
    for layers in (1, 3):
        model = twin(family_model("llama"), graph_engine(), layers)
        model.reserve(400)
        facts = model.engine_facts
        assert facts["graphs"] == facts["captures"] == len(trial_keys(layers, tuple(facts["buckets"]))) > 10


def test_the_last_positions_of_the_context_have_room_for_rounded_up_rows() -> None:
    pair = twin(family_model("llama"), graph_engine()), twin(family_model("llama"), EagerEngine)
    context = pair[0].context
    for model in pair:
        model.reserve(context)
        model.prepare([PassKind(17)])
    same(pair, random_ids(context - 18))
    same(pair, random_ids(17, seed=3))
    same(pair, random_ids(1, seed=4))


def test_what_was_met_once_is_captured_for_every_length_and_for_shorter_drafts() -> None:
    capture = RecordingCapture()
    model = twin(family_model("llama"), graph_engine(capture))
    model.reserve(400)
    tried = trial_keys(model.depth, tuple(model.engine_facts["buckets"]))
    chains = {key for key in tried if key.kind == GraphKind(False, 0, model.depth, states=False, logits=True)}
    assert len(chains) == 3 * 2  # 1, 2 and 5 rows, in the first bucket and the last
    model.extend(random_ids(20))
    model.extend(random_ids(6))
    ahead = UNDECLARED_ROWS * len(model.engine_facts["buckets"])
    assert model.engine_facts["captures"] == capture.recorded == ahead + len(tried - chains)
    before, repeated = capture.recorded, capture.repeated
    for width in (1, 2, 8, 3) * 20:
        model.extend(random_ids(width, seed=width))
    assert capture.recorded == before
    assert capture.repeated == repeated + 80


def test_no_more_of_the_best_are_prepared_for_than_there_are_tokens() -> None:
    model = twin(family_model("llama"), graph_engine())
    model.reserve(100)
    model.prepare([PassKind(1, best=64)])
    model.extend(random_ids(5))
    _, likeliest = model.read(random_ids(1), best=64)
    assert likeliest.ids_RK.shape == (1, 61)
    assert_graphs(model)


def test_what_is_returned_is_the_callers_own() -> None:
    model = twin(family_model("llama"), graph_engine())
    model.extend(random_ids(10))
    first = model.extend(random_ids(1, seed=1))
    kept = first.clone()
    model.extend(random_ids(1, seed=2))
    assert torch.equal(first, kept)


def test_a_row_that_is_not_asked_for_leaves_numbers_in_the_cache() -> None:
    """Not-a-number anywhere in a bucket would spoil the mixture, however little it weighs."""
    engine = CudaGraphEngine(_weights(), capture=RecordingCapture)
    model = twin(family_model("llama"), lambda weights: engine)
    model.extend(random_ids(1))
    model.prepare([PassKind(9, seen=10)])
    mask_TM = torch.cat((torch.ones(9, 1, dtype=torch.bool), tree_mask(random_tree(9))), dim=1)  # nothing before it
    model.extend(random_ids(9), mask=mask_TM)
    assert_graphs(model)
    assert all(torch.isfinite(part).all() for pair in engine.cache.layers for part in pair)


def _weights() -> Any:
    kept: list[Any] = []

    def engine(weights: Any) -> EagerEngine:
        kept.append(weights)
        return EagerEngine(weights)

    twin(family_model("llama"), engine)
    return kept[0]


def compiling_engine(backend: Any) -> MakeEngine:
    """Graphs of compiled functions, over a capture that runs them anew."""
    return graph_engine(RerunningCapture(), lambda capacity: (128, capacity), compiled=compiled_functions(backend))


def test_compiled_layers_are_few_variants_and_equal_the_plain_ones() -> None:
    """One row, and two or more: whatever the rows and the bucket, and each model its own sizes. The trial compiles
    nearly all of them, and a pass none but when it is captured."""
    backend = CountingBackend()
    torch._dynamo.reset()
    model, other = family_model("llama"), family_model("llama, a key head per query head")
    engine = compiling_engine(backend)
    pair = twin(model, engine), twin(model, EagerEngine)
    same(pair, random_ids(125))
    assert pair[0].engine_facts["compiled"] is True
    assert backend.compiled == 7  # place, layer and head, for one row and for more; where a tree stands
    for width in (1, 2, 6, 3):
        same(pair, random_ids(width, seed=width))
    parents = random_tree(7)
    same(pair, random_ids(7), mask=tree_mask(parents))
    assert backend.compiled == 8  # where one row under a mask stands
    pair = twin(other, engine), twin(other, EagerEngine)
    same(pair, random_ids(120))
    same(pair, random_ids(4))
    assert backend.compiled == 13  # its head has the shape of the first


@pytest.mark.parametrize(("value", "reason"), [("0", f"{VARIABLE}=0"), ("1", "not on a GPU (cpu)")])
def test_why_layers_are_not_compiled_is_said(monkeypatch: pytest.MonkeyPatch, value: str, reason: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert why_not_compiled(torch.device("cpu")) == reason
    model = twin(family_model("llama"), graph_engine())
    model.reserve(8)
    assert model.engine == "cuda-graphs"
    assert model.engine_facts["compiled"] is False
    assert model.engine_facts["why_not_compiled"] == reason
