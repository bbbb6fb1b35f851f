"""LoRA: what is trained, what a checkpoint holds, and what the merged model computes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from specbench_s2d.errors import UserError
from specbench_s2d.training.adapters import add_adapters, merge_adapters
from specbench_s2d.training.checkpoint import CHECKPOINT
from specbench_s2d.training.init_model import ModelSource
from specbench_s2d.training.jobs import Corpus, train_model
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.trainer import Progress, train

from .factory import held_out, random_rows, sums, tiny_model, tiny_spec, tiny_tokenizer, write_chats

IDS_BT = torch.tensor([[3, 7, 1, 12, 5, 5, 9]])
SPEC = tiny_spec(lora_rank=2, lora_alpha=8.0, learning_rate=5e-2, exits=(1, 2))


class StoppedError(Exception):
    """Stands for a kill: nothing in the package catches it."""


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.train(False)(IDS_BT).logits


def trained(out: Path, spec: TrainSpec = SPEC, stop_at: int = 0) -> tuple[PreTrainedModel, PreTrainedModel]:
    """The tiny model with its adapters trained, and the tuner that holds them."""

    def watch(progress: Progress) -> None:
        if progress.step == stop_at:
            raise StoppedError

    model = tiny_model()
    tuner = add_adapters(model, spec)
    train(model, random_rows(7, 8), held_out(), spec, out, watch)
    return model, tuner


def test_adapters_start_silent_and_are_all_that_is_trained(tmp_path: Path) -> None:
    plain = tiny_model()
    fresh = tiny_model()
    add_adapters(fresh, SPEC)
    assert torch.equal(logits(fresh), logits(plain))
    model, _ = trained(tmp_path)
    for name, weight in model.named_parameters():
        start = plain.state_dict().get(name.replace(".base_layer", ""))
        assert ("lora_" in name) == (start is None)
        assert start is None or torch.equal(weight, start)
    assert not torch.allclose(logits(model), logits(plain), atol=1e-3)


def test_adapters_are_drawn_from_the_seed_alone() -> None:
    """So that every process of a processes starts with the same."""
    drawn = []
    for before, seed in ((1, 0), (2, 0), (3, 1)):
        model = tiny_model()
        torch.manual_seed(before)
        add_adapters(model, SPEC.model_copy(update={"seed": seed}))
        drawn.append(model.model.layers[0].mlp.up_proj.lora_A["default"].weight)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_the_merged_model_is_a_plain_one_that_computes_the_same(tmp_path: Path) -> None:
    model, tuner = trained(tmp_path)
    before = logits(model)
    merged = merge_adapters(tuner)
    assert merged.state_dict().keys() == tiny_model().state_dict().keys()
    assert torch.allclose(logits(merged), before, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_stopped_run_goes_on_bit_for_bit_from_the_adapters_alone(optimizer: str, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"optimizer": optimizer})
    whole, _ = trained(tmp_path / "whole", spec)
    with pytest.raises(StoppedError):
        trained(tmp_path / "cut", spec, stop_at=6)
    kept = torch.load(tmp_path / "cut" / CHECKPOINT, weights_only=True)
    assert kept["step"] == 4 and all("lora_" in name for name in kept["model"])
    on, _ = trained(tmp_path / "cut", spec)
    ends = whole.state_dict(), on.state_dict()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_finished_folder_holds_merged_weights(tmp_path: Path) -> None:
    corpus, tokenizer = Corpus([str(write_chats(tmp_path / "c.jsonl", sums(200)))]), tiny_tokenizer()
    source = tiny_model(len(tokenizer))
    source.save_pretrained(str(tmp_path / "source"))
    spec = tiny_spec(steps=4, length=40, lora_rank=2, learning_rate=5e-2)
    train_model("d", ModelSource("continue", str(tmp_path / "source")), tokenizer, corpus, spec, tmp_path / "d", "sft")
    names = {path.name for path in (tmp_path / "d").iterdir()}
    assert "model.safetensors" in names and not any("adapter" in name for name in names)
    made = AutoModelForCausalLM.from_pretrained(str(tmp_path / "d"), dtype=torch.float32)
    assert made.state_dict().keys() == source.state_dict().keys()
    change = made.model.layers[0].mlp.down_proj.weight - source.model.layers[0].mlp.down_proj.weight
    assert torch.linalg.matrix_rank(change.detach(), atol=5e-3).item() == 2  # what bfloat16 rounds off is no rank
    assert "by LoRA of rank 2 and alpha 16" in (tmp_path / "d" / "README.md").read_text()


def test_without_peft_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, tokenizer = Corpus([str(write_chats(tmp_path / "c.jsonl", sums(200)))]), tiny_tokenizer()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError) as caught:
        train_model("d", ModelSource("new"), tokenizer, corpus, SPEC, tmp_path / "d", "sft")
    assert str(caught.value) == (
        "--lora-rank 2: LoRA needs peft, which is not installed; pip install 'specbench-s2d[train]'."
    )
