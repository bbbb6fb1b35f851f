"""Models that run through transformers' own forward keep the same contract: extend, rollback, keep, tree masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import Identity
from specbench_s2d.models.hf import TransformersModel
from tests.models.reference import (
    VOCABULARY,
    assert_close,
    path_to,
    random_ids,
    random_model,
    random_tree,
    recomputed,
    tree_mask,
    tree_positions,
)
from tests.refusals import refused

CONTEXT = 64
WINDOW = 8  # far below the sequences' 40 positions
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
}
_LLAMA_LIKE = {**_SHAPE, "intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.2}
MODELS: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "opt": (OPTConfig, OPTForCausalLM, {**_SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2}),
    "mistral, every layer through a window": (
        MistralConfig,
        MistralForCausalLM,
        {**_LLAMA_LIKE, "sliding_window": WINDOW},
    ),
    "qwen2, windows above layer 1": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {**_LLAMA_LIKE, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def reference(request: pytest.FixtureRequest) -> PreTrainedModel:
    config_class, model_class, changes = MODELS[request.param]
    return random_model(config_class, model_class, **changes)


@pytest.fixture
def model(reference: PreTrainedModel) -> TransformersModel:
    nobody: Any = None
    identity = Identity("random", "test", architecture=str(reference.config.model_type))
    return TransformersModel(identity, reference, nobody, frozenset())


def test_a_window_hides_what_lies_far_back() -> None:
    """Else the windowed cases below would prove nothing: three layers of windows see 3 x 7 positions back, no more."""
    config_class, model_class, changes = MODELS["mistral, every layer through a window"]
    model = random_model(config_class, model_class, **changes)
    ids_BT = random_ids(40)
    other_BT = ids_BT.clone()
    other_BT[0, 0] = (other_BT[0, 0] + 1) % VOCABULARY
    change_T = (recomputed(model, ids_BT) - recomputed(model, other_BT))[0].abs().amax(-1)
    assert (change_T[: 3 * (WINDOW - 1) + 1] > 0).all()
    assert (change_T[3 * (WINDOW - 1) + 1 :] == 0).all()


def test_a_sequence_in_passes_equals_one_pass(model: TransformersModel, reference: PreTrainedModel) -> None:
    ids_BT = random_ids(40)
    parts = ids_BT.split([20, 1, 1, 6, 12], dim=1)
    logits_BTV = torch.cat([model.extend(part) for part in parts], dim=1)
    assert logits_BTV.dtype == torch.float32
    assert model.length == 40
    assert_close(logits_BTV, recomputed(reference, ids_BT))


def test_last_only_gives_the_last_position(model: TransformersModel, reference: PreTrainedModel) -> None:
    ids_BT = random_ids(40)
    logits_BTV = model.extend(ids_BT, last_only=True)
    assert logits_BTV.shape == (1, 1, VOCABULARY)
    assert_close(logits_BTV, recomputed(reference, ids_BT)[:, -1:])


@pytest.mark.parametrize("kept", [0, 1, 5, 29])
def test_after_a_rollback_other_tokens_go_on_from_there(
    model: TransformersModel, reference: PreTrainedModel, kept: int
) -> None:
    first_BT, other_BT = random_ids(30), random_ids(9, seed=7)
    model.extend(first_BT)
    model.rollback(kept)
    assert model.length == kept
    expected = recomputed(reference, torch.cat((first_BT[:, :kept], other_BT), dim=1))
    logits_BTV = torch.cat([model.extend(part) for part in other_BT.split([4, 1, 4], dim=1)], dim=1)
    assert_close(logits_BTV, expected[:, kept:])


def test_a_tree_pass_equals_its_paths_one_by_one(model: TransformersModel, reference: PreTrainedModel) -> None:
    nodes, start = 9, 25
    context_BT, tree_BT, parents = random_ids(start), random_ids(nodes, seed=5), random_tree(nodes)
    model.extend(context_BT)
    logits_BTV = model.extend(tree_BT, mask=tree_mask(parents), positions=tree_positions(parents, start))
    for leaf in set(range(nodes)) - set(parents):
        path = path_to(leaf, parents)
        expected = recomputed(reference, torch.cat((context_BT, tree_BT[:, path]), dim=1))
        assert_close(logits_BTV[:, path], expected[:, start:])


def test_a_causal_mask_says_what_no_mask_says(model: TransformersModel, reference: PreTrainedModel) -> None:
    ids_BT = random_ids(30)
    model.extend(ids_BT[:, :20])
    logits_BTV = model.extend(ids_BT[:, 20:], mask=torch.ones(10, 10, dtype=torch.bool).tril())
    assert_close(logits_BTV, recomputed(reference, ids_BT)[:, 20:])


def test_kept_positions_are_a_sequence_of_their_own(model: TransformersModel, reference: PreTrainedModel) -> None:
    nodes, start = 9, 25
    context_BT, tree_BT, parents = random_ids(start), random_ids(nodes, seed=5), random_tree(nodes)
    model.extend(context_BT)
    model.extend(tree_BT, mask=tree_mask(parents), positions=tree_positions(parents, start))
    path = path_to(nodes - 1, parents)
    assert path != list(range(len(path))), "the path must have to be moved"
    model.keep(path, start=start)
    assert model.length == start + len(path)
    more_BT = random_ids(4, seed=6)
    expected = recomputed(reference, torch.cat((context_BT, tree_BT[:, path], more_BT), dim=1))
    assert_close(model.extend(more_BT), expected[:, -4:])


def test_layer_ranges_are_refused(model: TransformersModel) -> None:
    assert not model.has_layer_ranges
    for arguments in ({"from_layer": 1}, {"to_layer": 2}):
        with refused(ModelError, "random", model.identity.architecture, "no layer ranges"):
            model.extend(random_ids(3), **arguments)
    with refused(ModelError, "random", "hidden states"):
        model.head(torch.zeros(1, 1, model.width))
    assert model.length == 0


def test_positions_beyond_the_context_are_refused(model: TransformersModel) -> None:
    model.extend(random_ids(CONTEXT))
    with refused(ModelError, "random", f"{CONTEXT + 1} positions"):
        model.extend(random_ids(1))


def test_facts_come_from_the_config(model: TransformersModel, reference: PreTrainedModel) -> None:
    assert (model.vocabulary, model.depth, model.context, model.width) == (VOCABULARY, 3, CONTEXT, 32)
    assert model.exits == ()
    assert model.parameter_bytes == 4 * sum(p.numel() for p in reference.parameters())
