"""The exits of a nested draft: which are allowed, what is learnt at each, and where they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from specbench_s2d import load_model
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.training.exits import check_exit_flags, check_nested, declare_exits, default_exits, nested_spec
from specbench_s2d.training.init_model import ModelSource
from specbench_s2d.training.jobs import Corpus, train_model
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.surgery import cut_layers
from specbench_s2d.training.trainer import compute_layers_twice, sums_of_losses, train, validation_loss

from .factory import held_out, random_rows, sums, tiny_model, tiny_spec, tiny_tokenizer, write_chats

# Which exits there may be


@pytest.mark.parametrize(
    ("depth", "exits"), [(12, (6, 9, 12)), (4, (2, 3, 4)), (8, (4, 6, 8)), (5, (3, 4, 5)), (2, (1, 2)), (1, (1,))]
)
def test_the_default_is_half_three_quarters_and_all_of_the_layers(depth: int, exits: tuple[int, ...]) -> None:
    assert default_exits(depth) == exits
    assert nested_spec(TrainSpec(tokens=1), depth).exits == exits
    check_exit_flags(exits, depth)


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        ((3, 2, 4), "--exits 3,2,4: an exit is repeated or out of order"),
        ((2, 2, 4), "--exits 2,2,4: an exit is repeated or out of order"),
        ((2, 3, 5), "--exits 2,3,5: an exit at 5 is above the model's depth"),
        ((0, 2, 4), "--exits 0,2,4: an exit at 0 is below the first layer"),
        ((-1, 4), "--exits -1,4: an exit at -1 is below the first layer"),
        ((2, 3), "--exits 2,3: the last exit, 3, is not the model's last layer"),
    ],
)
def test_impossible_exits_are_one_line(exits: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        nested_spec(TrainSpec(tokens=1, exits=exits), 4)
    assert str(caught.value) == f"{message}; give depths that rise to the model's 4 layers, such as 2,3,4."


def test_a_checkpoint_that_decoding_cannot_run_layer_by_layer_is_refused() -> None:
    config = LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, mlp_bias=True
    )
    with pytest.raises(ModelError, match=r"it: exits need a Llama-family .*this one has biases in the layers; .*sft"):
        check_nested(LlamaForCausalLM(config), (1, 2), "it")
    check_nested(tiny_model(), (1, 2), "it")


# What is learnt


def shaken(layers: int = 4) -> PreTrainedModel:
    """A random model whose layers and final norm matter."""
    model = tiny_model(layers=layers)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.mul_(10)
        model.model.norm.weight.copy_(torch.rand(16, generator=generator) + 0.5)
    return model


@pytest.mark.parametrize("exits", [(2, 3, 4), (1, 4), (4,)])
def test_each_exits_loss_is_that_of_the_model_cut_there(exits: tuple[int, ...]) -> None:
    rows = random_rows(3, 8)
    ids_BT, learn_BT = torch.from_numpy(rows.ids_BT).long(), torch.from_numpy(rows.learn_BT)
    targets_BT = ids_BT[:, 1:].masked_fill(~learn_BT[:, 1:], -100)
    expected = []
    for depth in exits:
        logits_BTV = cut_layers(shaken(), depth)(ids_BT[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")
        expected.append(loss.item())
    measured = sums_of_losses(shaken(), ids_BT, learn_BT, False, exits)
    assert measured.tolist() == pytest.approx(expected, rel=1e-5)
    assert len(set(expected)) == len(exits)


def test_a_step_learns_the_mean_of_the_exits(tmp_path: Path) -> None:
    rows, spec = random_rows(4, 8), tiny_spec(steps=1, exits=(2, 3, 4), gradient_checkpointing=True)
    ids_BT, learn_BT = torch.from_numpy(rows.ids_BT).long(), torch.from_numpy(rows.learn_BT)
    expected = sums_of_losses(shaken(), ids_BT, learn_BT, False, spec.exits).sum() / 3 / learn_BT[:, 1:].sum()
    model = shaken()
    assert train(model, rows, {}, spec, tmp_path)[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert model.model.layers[0].gradient_checkpointing


def test_validation_is_told_by_exit() -> None:
    measured = validation_loss(shaken(), held_out(), False, (2, 3, 4))
    assert list(measured) == [2, 3, 4]
    for depth, by_suite in measured.items():
        alone = validation_loss(cut_layers(shaken(), depth), held_out(), False)[depth]
        assert by_suite == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("exits", [(), (2, 3, 4)])
def test_computing_layers_twice_changes_no_gradient(exits: tuple[int, ...]) -> None:
    rows = random_rows(3, 8)
    ids_BT, learn_BT = torch.from_numpy(rows.ids_BT).long(), torch.from_numpy(rows.learn_BT)
    gradients: list[list[torch.Tensor]] = []
    for twice in (False, True):
        model, runs = shaken().train(), []
        model.model.layers[0].mlp.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        if twice:
            compute_layers_twice(model)
        sums_of_losses(model, ids_BT, learn_BT, False, exits).mean().backward()
        assert len(runs) == 1 + twice
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))


# Where they are written


def test_exits_are_declared_and_those_of_a_source_are_not_kept() -> None:
    model = tiny_model(layers=4)
    declare_exits(model, (2, 3, 4))
    assert model.config.specbench_exits == [2, 3, 4]
    cut = cut_layers(model, 3)
    declare_exits(cut, ())
    assert not hasattr(cut.config, "specbench_exits") and "specbench_exits" not in cut.config.to_dict()
    declare_exits(cut, ())


def test_a_nested_draft_is_an_ordinary_folder_that_knows_its_exits(tmp_path: Path) -> None:
    corpus, tokenizer = Corpus([str(write_chats(tmp_path / "c.jsonl", sums(200)))]), tiny_tokenizer()
    tiny_model(len(tokenizer), layers=5).save_pretrained(str(tmp_path / "source"))
    spec = tiny_spec(
        steps=6, length=40, tokens=6 * 160, exits=(2, 3, 4), loss_on="answers", gradient_checkpointing=True
    )
    facts = train_model(
        "d", ModelSource("cut", str(tmp_path / "source"), 4), tokenizer, corpus, spec, tmp_path / "d", "train soft"
    )
    assert json.loads((tmp_path / "d" / "config.json").read_text())["specbench_exits"] == [2, 3, 4]
    draft = load_model(str(tmp_path / "d"), device="cpu", dtype="float32")
    assert draft.exits == (2, 3, 4) and draft.depth == 4
    plain = AutoModelForCausalLM.from_pretrained(str(tmp_path / "d"), dtype=torch.float32)
    ids_BT = torch.tensor([[1, 5, 9, 14]])
    with torch.no_grad():
        assert torch.allclose(draft.extend(ids_BT), plain(ids_BT).logits, atol=1e-4)
    by_exit = facts["exit_perplexity"]
    assert list(by_exit) == ["2", "3", "4"] and by_exit["4"] == facts["validation_perplexity"]["all"]
    card = (tmp_path / "d" / "README.md").read_text()
    assert "loss on answers alone, the mean of exits 2, 3, 4;" in card
    table = [f"| {depth} | {perplexity:.2f} |" for depth, perplexity in by_exit.items()]
    assert "\n".join(["| exit after layer | perplexity |", "|---|---|", *table]) in card


def test_exits_that_do_not_fit_the_start_train_nothing(tmp_path: Path) -> None:
    corpus, tokenizer = Corpus([str(write_chats(tmp_path / "c.jsonl", sums(200)))]), tiny_tokenizer()
    tiny_model(len(tokenizer), layers=3).save_pretrained(str(tmp_path / "source"))
    for layers, exits, message in (
        (4, (2, 3, 4), "--layers 4: the source has 3 layers; give 1 to 3"),
        (3, (2, 4), "--exits 2,4: an exit at 4 is above"),
    ):
        start = ModelSource("cut", str(tmp_path / "source"), layers)
        with pytest.raises(UserError, match=message):
            train_model("d", start, tokenizer, corpus, tiny_spec(exits=exits), tmp_path / "d", "train soft")
    assert {path.name for path in tmp_path.iterdir()} == {"c.jsonl", "source"}
