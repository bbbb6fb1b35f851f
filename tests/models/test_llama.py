"""The lean forward computes what transformers computes, however a sequence is cut into passes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from specbench_s2d.errors import ModelError
from specbench_s2d.models import load_model
from specbench_s2d.models.base import Identity
from specbench_s2d.models.demo import demo_names
from specbench_s2d.models.engines.choose import MakeEngine
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.native import NativeEngine
from specbench_s2d.models.llama import LlamaModel, why_not_lean
from specbench_s2d.resources import demo_folder
from tests.models.reference import (
    CONTEXT,
    FAMILIES,
    assert_close,
    family_model,
    path_to,
    random_ids,
    random_tree,
    recomputed,
    tree_mask,
)
from tests.refusals import refused


def lean_twin(model: PreTrainedModel, engine: MakeEngine = EagerEngine) -> LlamaModel:
    weights = model.state_dict()
    nobody: Any = None
    identity = Identity("random")
    return LlamaModel(
        identity, model.config, weights.__getitem__, nobody, frozenset(), torch.device("cpu"), torch.float32, engine
    )


ENGINES = {
    "eager": EagerEngine,
    "native, one thread": partial(NativeEngine, threads=1),
    "native, three threads": partial(NativeEngine, threads=3),
}
PAIRS = [(family, engine) for family in FAMILIES for engine in ENGINES]


@pytest.fixture(scope="module", params=PAIRS, ids=[f"{family}; {engine}" for family, engine in PAIRS])
def pair(request: pytest.FixtureRequest) -> tuple[LlamaModel, PreTrainedModel]:
    family, engine = request.param
    reference = family_model(family)
    return lean_twin(reference, ENGINES[engine]), reference


@pytest.fixture
def lean(pair: tuple[LlamaModel, PreTrainedModel]) -> LlamaModel:
    pair[0].reset()
    return pair[0]


@pytest.fixture
def reference(pair: tuple[LlamaModel, PreTrainedModel]) -> PreTrainedModel:
    return pair[1]


def in_passes(model: LlamaModel, ids_BT: Tensor, widths: list[int]) -> Tensor:
    """Logits of a sequence in passes of the widths given, and one of what is left."""
    rest = ids_BT.shape[1] - sum(widths)
    parts = ids_BT.split([*widths, rest] if rest else widths, dim=1)
    return torch.cat([model.extend(part) for part in parts], dim=1)


def test_a_whole_pass_equals_transformers(lean: LlamaModel, reference: PreTrainedModel) -> None:
    ids_BT = random_ids(40)
    logits_BTV = lean.extend(ids_BT)
    assert logits_BTV.shape == (1, 40, lean.vocabulary)
    assert logits_BTV.dtype == torch.float32
    assert_close(logits_BTV, recomputed(reference, ids_BT))
    assert lean.length == 40


@pytest.mark.parametrize(
    "widths",
    [[20] + [1] * 20, [1, 15, 16, 17], [17, 16, 2], [2, 2, 30]],
    ids=["prefill, then token by token", "around the narrow attention's limit", "narrowing", "widening"],
)
def test_a_sequence_in_passes_equals_one_pass(lean: LlamaModel, reference: PreTrainedModel, widths: list[int]) -> None:
    ids_BT = random_ids(52)
    assert_close(in_passes(lean, ids_BT, widths), recomputed(reference, ids_BT))


@pytest.mark.parametrize("kept", [1, 9, 25])
def test_after_a_rollback_other_tokens_go_on_from_there(
    lean: LlamaModel, reference: PreTrainedModel, kept: int
) -> None:
    first_BT, other_BT = random_ids(30), random_ids(22, seed=7)
    lean.extend(first_BT)
    lean.rollback(kept)
    assert lean.length == kept
    expected = recomputed(reference, torch.cat((first_BT[:, :kept], other_BT), dim=1))
    assert_close(in_passes(lean, other_BT, [3, 18]), expected[:, kept:])


def test_reset_forgets_everything(lean: LlamaModel, reference: PreTrainedModel) -> None:
    lean.extend(random_ids(30))
    lean.reset()
    assert lean.length == 0
    ids_BT = random_ids(12, seed=3)
    assert_close(lean.extend(ids_BT), recomputed(reference, ids_BT))


def test_layer_ranges_composed_equal_the_whole(lean: LlamaModel, reference: PreTrainedModel) -> None:
    ids_BT = random_ids(30)
    for part in ids_BT.split([21, 1, 8], dim=1):
        hidden_BTD = lean.extend(part, to_layer=1)
        assert hidden_BTD.shape == (1, part.shape[1], lean.width)
        hidden_BTD = lean.extend(hidden_BTD, from_layer=1, to_layer=2)
        last = lean.extend(hidden_BTD, from_layer=2)
    assert_close(last, recomputed(reference, ids_BT)[:, -8:])


def test_a_lower_layer_may_run_ahead_of_those_above(lean: LlamaModel, reference: PreTrainedModel) -> None:
    """Three tokens leave at layer 1, then all that waits goes through layers 2 and 3 in one call."""
    ids_BT = random_ids(14)
    lean.extend(ids_BT[:, :10])
    waiting = [lean.extend(ids_BT[:, at : at + 1], to_layer=1) for at in (10, 11, 12, 13)]
    assert (lean.length, lean.layer_length(0), lean.layer_length(1)) == (10, 14, 10)
    logits_BTV = lean.extend(torch.cat(waiting, dim=1), from_layer=1)
    assert lean.length == 14
    assert_close(logits_BTV, recomputed(reference, ids_BT)[:, 10:])


def test_a_rollback_cuts_layers_that_ran_ahead_and_leaves_those_behind(lean: LlamaModel) -> None:
    lean.extend(random_ids(10))
    lean.extend(random_ids(4), to_layer=1)
    lean.rollback(12)
    assert (lean.layer_length(0), lean.layer_length(1)) == (12, 10)


def test_the_head_reads_hidden_states_of_any_depth(lean: LlamaModel, reference: PreTrainedModel) -> None:
    ids_BT = random_ids(20)
    with torch.inference_mode():
        states = reference(input_ids=ids_BT, output_hidden_states=True, use_cache=False).hidden_states
    for depth in (1, 2):
        lean.reset()
        hidden_BTD = lean.extend(ids_BT, to_layer=depth)
        assert_close(hidden_BTD, states[depth])
        with torch.inference_mode():
            expected = reference.lm_head(reference.model.norm(states[depth]))
        assert_close(lean.head(hidden_BTD), expected)
    lean.reset()
    assert_close(lean.head(lean.extend(ids_BT, to_layer=lean.depth)), recomputed(reference, ids_BT))


def test_last_only_gives_the_last_position(lean: LlamaModel, reference: PreTrainedModel) -> None:
    ids_BT = random_ids(25)
    expected = recomputed(reference, ids_BT)
    logits_BTV = lean.extend(ids_BT[:, :20], last_only=True)
    assert logits_BTV.shape == (1, 1, lean.vocabulary)
    assert_close(logits_BTV, expected[:, 19:20])
    assert_close(lean.extend(ids_BT[:, 20:], last_only=True), expected[:, 24:])
    lean.reset()
    assert lean.extend(ids_BT, to_layer=2, last_only=True).shape == (1, 1, lean.width)


@pytest.mark.parametrize("nodes", [7, 24], ids=["narrow", "wide"])
def test_a_tree_pass_equals_its_paths_one_by_one(lean: LlamaModel, reference: PreTrainedModel, nodes: int) -> None:
    context_BT, tree_BT, parents = random_ids(11), random_ids(nodes, seed=5), random_tree(nodes)
    lean.extend(context_BT)
    logits_BTV = lean.extend(tree_BT, mask=tree_mask(parents))
    for leaf in set(range(nodes)) - set(parents):
        path = path_to(leaf, parents)
        expected = recomputed(reference, torch.cat((context_BT, tree_BT[:, path]), dim=1))
        assert_close(logits_BTV[:, path], expected[:, 11:])


def test_kept_positions_are_a_sequence_of_their_own(lean: LlamaModel, reference: PreTrainedModel) -> None:
    nodes = 12
    context_BT, tree_BT, parents = random_ids(11), random_ids(nodes, seed=5), random_tree(nodes)
    lean.extend(context_BT)
    lean.extend(tree_BT, mask=tree_mask(parents))
    path = path_to(nodes - 1, parents)
    assert path != list(range(len(path))), "the path must have to be moved"
    lean.keep_path(path, start=11)
    assert lean.length == 11 + len(path)
    more_BT = random_ids(4, seed=6)
    expected = recomputed(reference, torch.cat((context_BT, tree_BT[:, path], more_BT), dim=1))
    assert_close(lean.extend(more_BT), expected[:, -4:])


@pytest.mark.parametrize("family", ["llama, llama3 rope", "qwen3"])
def test_a_cache_that_grows_keeps_what_it_holds(family: str) -> None:
    """The cache grows in blocks of 512 positions."""
    reference = family_model(family)
    lean = lean_twin(reference)
    ids_BT = random_ids(CONTEXT)
    logits_BTV = in_passes(lean, ids_BT, [500, 10, 1, 1, 1, 511])
    assert_close(logits_BTV, recomputed(reference, ids_BT))


def test_positions_beyond_the_context_are_refused() -> None:
    lean = lean_twin(family_model("llama"))
    lean.extend(random_ids(CONTEXT - 1))
    lean.extend(random_ids(1))
    with refused(ModelError, "random", f"{CONTEXT + 1} positions", f"holds {CONTEXT}", "fewer new tokens"):
        lean.extend(random_ids(1))
    assert lean.length == CONTEXT


def test_parameter_bytes_count_a_tied_head_once() -> None:
    for name in ("llama", "llama, tied"):
        model = family_model(name)
        assert lean_twin(model).parameter_bytes == 4 * sum(p.numel() for p in model.parameters())


def test_a_pass_reads_its_layers_the_cache_they_see_and_the_head() -> None:
    for name in ("llama", "llama, tied"):
        model = family_model(name)
        lean = lean_twin(model)
        size, position = bytes_of(model), 2 * 4 * model.config.num_key_value_heads * model.config.head_dim
        lean.extend(random_ids(5))
        assert lean.read_bytes == size("layers", "model.norm", "lm_head") + lean.depth * 5 * position
        before = lean.read_bytes
        lean.extend(random_ids(2), to_layer=1)  # an exit that nobody looks at
        assert lean.read_bytes - before == size("layers.0.") + 7 * position
        before = lean.read_bytes
        lean.head(torch.zeros(1, 3, lean.width))
        assert lean.read_bytes - before == size("model.norm", "lm_head")


def bytes_of(model: PreTrainedModel) -> Any:
    """Bytes in float32 of the weights whose names hold any of the given words; a tied head's are the embedding's."""
    weights = model.state_dict()
    return lambda *words: sum(4 * w.numel() for name, w in weights.items() if any(word in name for word in words))


@pytest.mark.parametrize(
    ("family", "change", "reason"),
    [
        ("llama", {"model_type": "gemma"}, "model type gemma"),
        ("llama", {"hidden_act": "gelu"}, "activation gelu"),
        ("llama", {"mlp_bias": True}, "biases"),
        ("llama", {"attention_bias": True}, "biases"),
        ("qwen3", {"attention_bias": True}, "biases"),
        ("mistral", {"sliding_window": CONTEXT - 1}, f"a sliding window of {CONTEXT - 1}"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8}, "a sliding window of 8"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic"}}, "rotary embedding dynamic"),
    ],
)
def test_what_the_lean_forward_does_not_compute_is_left_to_transformers(
    family: str, change: dict[str, Any], reason: str
) -> None:
    config = family_model(family).config
    assert why_not_lean(config) is None
    for name, value in change.items():
        object.__setattr__(config, name, value)
    assert reason in (why_not_lean(config) or "")


@pytest.mark.parametrize("family", ["mistral", "qwen2"])
def test_a_window_as_wide_as_the_context_or_switched_off_is_no_window(family: str) -> None:
    config = family_model(family).config
    config.sliding_window = CONTEXT if family == "mistral" else 8
    assert why_not_lean(config) is None


@pytest.mark.parametrize("name", demo_names() or [None])
def test_demo_models_equal_transformers(name: str | None) -> None:
    if name is None:
        pytest.skip("this checkout holds no demo models")
    model = load_model(name, device="cpu", dtype="float32")
    reference = AutoModelForCausalLM.from_pretrained(str(demo_folder() / name), dtype=torch.float32)
    ids_BT = torch.tensor([model.tokenizer.encode("What is the capital of France? It is Paris, on the river Seine.")])
    expected = recomputed(reference, ids_BT)
    assert isinstance(model, LlamaModel)
    assert_close(model.extend(ids_BT), expected)
    model.reset()
    assert_close(in_passes(model, ids_BT, [5, 1, 1, 4]), expected)
