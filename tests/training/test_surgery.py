"""Cutting and growing models: what they compute afterwards."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from specbench_s2d.errors import UserError
from specbench_s2d.training.surgery import cut_layers, doubled_layers, grow_layers

from .factory import tiny_model

IDS_BT = torch.tensor([[3, 7, 1, 12, 5, 5, 9]])


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.train(False)(IDS_BT).logits


def shaken(layers: int) -> PreTrainedModel:
    """A random model whose layers matter: weights ten times their usual size."""
    model = tiny_model(layers=layers)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.mul_(10)
    return model


@pytest.mark.parametrize(("depth", "layers"), [(1, 2), (2, 3), (3, 4), (3, 5), (3, 6), (4, 4)])
def test_a_grown_model_computes_what_its_source_did(depth: int, layers: int) -> None:
    before = logits(shaken(depth))
    grown = grow_layers(shaken(depth), layers)
    assert torch.allclose(logits(grown), before, rtol=0, atol=1e-6)
    assert len(grown.model.layers) == grown.config.num_hidden_layers == layers
    assert [layer.self_attn.layer_idx for layer in grown.model.layers] == list(range(layers))


def test_inserted_layers_are_spread_evenly() -> None:
    assert doubled_layers(8, 12) == {1, 3, 5, 7}  # every second
    assert doubled_layers(12, 20) == {1, 2, 3, 5, 7, 8, 9, 11}  # two of every three
    assert doubled_layers(4, 8) == {0, 1, 2, 3}
    assert doubled_layers(4, 4) == set()


def test_a_grown_model_keeps_its_cache_straight() -> None:
    grown = grow_layers(shaken(3), 5).train(False)
    answers = [grown.generate(IDS_BT, max_new_tokens=6, do_sample=False, use_cache=c).tolist() for c in (True, False)]
    assert answers[0] == answers[1]


def test_inserted_layers_learn() -> None:
    grown = grow_layers(tiny_model(layers=1), 2)
    grown(IDS_BT, labels=IDS_BT).loss.backward()
    gradient = grown.model.layers[1].mlp.down_proj.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_cut_model_is_the_truncated_forward_pass(layers: int) -> None:
    whole = shaken(4).train(False)
    with torch.no_grad():
        # A hook before layer `layers` sees what the cut model hands to the norm.
        seen: list[torch.Tensor] = []
        whole.model.layers[layers].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        whole(IDS_BT)
        expected = whole.lm_head(whole.model.norm(seen[0]))
    cut = cut_layers(shaken(4), layers)
    assert torch.allclose(logits(cut), expected, rtol=0, atol=1e-6)
    assert len(cut.model.layers) == cut.config.num_hidden_layers == layers


def test_layer_types_follow_their_layers() -> None:
    config = Qwen2Config(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        use_sliding_window=True,
        max_window_layers=2,
    )
    kinds = list(config.layer_types)
    assert kinds == ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]
    grown = grow_layers(Qwen2ForCausalLM(config), 6)  # layers 1 and 3 doubled
    assert grown.config.layer_types == [kinds[i] for i in (0, 1, 1, 2, 3, 3)]
    assert cut_layers(grown, 4).config.layer_types == [kinds[i] for i in (0, 1, 1, 2)]


def test_impossible_depths_are_refused() -> None:
    for layers in (0, 4):
        with pytest.raises(UserError, match=f"--layers {layers}: the source has 3 layers; give 1 to 3"):
            cut_layers(tiny_model(layers=3), layers)
    for layers in (2, 7):
        with pytest.raises(UserError, match=f"--layers {layers}: a model of 3 layers can grow to 3 to 6"):
            grow_layers(tiny_model(layers=3), layers)
