"""Models that run through transformers' own forward keep the same contract: extend, rollback, keep, tree masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MambaConfig,
    MambaForCausalLM,
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
_OPT = {**_SHAPE, "ffn_dim": 48, "init_std": 0.2}
_GPT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.2}
Family = tuple[type[Any], type[Any], dict[str, Any]]
MODELS: dict[str, Family] = {
    "opt": (OPTConfig, OPTForCausalLM, _OPT),
    "opt, narrow words and norms after, as opt-350m": (
        OPTConfig,
        OPTForCausalLM,
        {**_OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    ),
    "gpt2": (GPT2Config, GPT2LMHeadModel, {**_GPT, "n_positions": CONTEXT}),
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


# What tells positions by their order in the cache, or reads parts of the sequence alone: no masks of ours.
WITHOUT_MASKS: dict[str, Family] = {
    "bloom": (BloomConfig, BloomForCausalLM, {**_GPT, "hidden_size": 32, "seq_length": CONTEXT}),
    "falcon, alibi": (FalconConfig, FalconForCausalLM, {**_SHAPE, "alibi": True, "initializer_range": 0.2}),
    "gpt neo, local layers": (
        GPTNeoConfig,
        GPTNeoForCausalLM,
        {**_SHAPE, "attention_types": [[["global", "local", "global"], 1]], "window_size": WINDOW},
    ),
    "llama 4, chunks": (
        Llama4TextConfig,
        Llama4ForCausalLM,
        {**_LLAMA_LIKE, "head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48, "attention_chunk_size": 8},
    ),
}


def wrapped(reference: PreTrainedModel) -> TransformersModel:
    nobody: Any = None
    identity = Identity("random", architecture=str(reference.config.model_type))
    return TransformersModel(identity, reference, nobody, frozenset())


@pytest.fixture(scope="module", params=MODELS)
def reference(request: pytest.FixtureRequest) -> PreTrainedModel:
    config_class, model_class, changes = MODELS[request.param]
    return random_model(config_class, model_class, **changes)


@pytest.fixture
def model(reference: PreTrainedModel) -> TransformersModel:
    return wrapped(reference)


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
    logits_BTV = model.extend(tree_BT, mask=tree_mask(parents))
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
    model.extend(tree_BT, mask=tree_mask(parents))
    path = path_to(nodes - 1, parents)
    assert path != list(range(len(path))), "the path must have to be moved"
    model.keep_path(path, start=start)
    assert model.length == start + len(path)
    more_BT = random_ids(4, seed=6)
    expected = recomputed(reference, torch.cat((context_BT, tree_BT[:, path], more_BT), dim=1))
    assert_close(model.extend(more_BT), expected[:, -4:])


def test_levels_of_a_tree_in_passes_of_their_own(model: TransformersModel, reference: PreTrainedModel) -> None:
    """As a beam search runs them: later levels see some of the earlier ones in the cache."""
    nodes, start = 9, 25
    context_BT, tree_BT, parents = random_ids(start), random_ids(nodes, seed=5), random_tree(nodes)
    mask_TT, positions_T = tree_mask(parents), tree_positions(parents, start)
    levels = [int((positions_T == level).sum()) for level in positions_T.unique()]
    assert len(levels) > 2
    model.extend(context_BT)
    done, logits = 0, []
    for width in levels:
        new = slice(done, done + width)
        logits.append(model.extend(tree_BT[:, new], mask=mask_TT[new, : new.stop]))
        done = new.stop
    logits_BTV = torch.cat(logits, dim=1)
    for leaf in set(range(nodes)) - set(parents):
        path = path_to(leaf, parents)
        expected = recomputed(reference, torch.cat((context_BT, tree_BT[:, path]), dim=1))
        assert_close(logits_BTV[:, path], expected[:, start:])


@pytest.mark.parametrize("name", WITHOUT_MASKS)
def test_a_model_that_cannot_take_masks_says_so_and_decodes_without(name: str) -> None:
    config_class, model_class, changes = WITHOUT_MASKS[name]
    reference = random_model(config_class, model_class, **changes)
    model, ids_BT = wrapped(reference), random_ids(24)
    logits_BTV = torch.cat([model.extend(part) for part in ids_BT.split([20, 4], dim=1)], dim=1)
    assert_close(logits_BTV, recomputed(reference, ids_BT))
    with refused(ModelError, "random", model.identity.architecture, "no tree masks", "(ar, sd)"):
        model.extend(random_ids(2), mask=torch.ones(2, 2, dtype=torch.bool).tril())
    assert model.length == 24
    model.rollback(20)
    assert_close(model.extend(ids_BT[:, 20:]), logits_BTV[:, 20:])


@pytest.mark.parametrize(
    ("config_class", "model_class", "changes"),
    [
        (MambaConfig, MambaForCausalLM, {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}),
        (Lfm2Config, Lfm2ForCausalLM, {**_LLAMA_LIKE, "layer_types": ["conv", "full_attention", "conv"]}),
    ],
    ids=["mamba", "lfm2, convolutions"],
)
def test_a_running_state_that_cannot_be_cut_is_refused(
    config_class: type[Any], model_class: type[Any], changes: dict[str, Any]
) -> None:
    with refused(ModelError, "random", "running state", "all attention"):
        wrapped(random_model(config_class, model_class, **changes))


def test_a_config_without_a_longest_sequence_is_refused() -> None:
    with refused(ModelError, "random", "no longest sequence", "max_position_embeddings"):
        wrapped(random_model(BloomConfig, BloomForCausalLM, **{**_GPT, "hidden_size": 32}))


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


def test_a_pass_reads_all_weights_but_a_looked_up_embedding_and_the_whole_cache(
    model: TransformersModel, reference: PreTrainedModel
) -> None:
    embedding, head = reference.get_input_embeddings().weight, reference.get_output_embeddings().weight
    looked_up = 0 if head.data_ptr() == embedding.data_ptr() else embedding.nbytes
    weights = sum(p.nbytes for p in reference.parameters()) - looked_up
    model.extend(random_ids(4))
    first = model.read_bytes
    assert first > weights
    cache = first - weights  # of four positions
    model.extend(random_ids(4))
    assert model.read_bytes - first == weights + 2 * cache
