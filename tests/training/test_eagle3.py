"""`train eagle --version 3`: from a target and chats to EAGLE-3's head in published form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from specbench_s2d import build_decoder, load_model
from specbench_s2d.cli.main import main
from specbench_s2d.models.token_ranking import RANKING_FILE, ranked
from specbench_s2d.models.weight_files import SAFE
from specbench_s2d.training import eagle
from specbench_s2d.training.eagle3 import Eagle3Module
from specbench_s2d.training.trainer import _optimizers
from tests.training.factory import check_learning, sums, tiny_model, tiny_spec, write_chats
from tests.training.test_eagle import killed


@pytest.fixture
def command(tiny_models: Path, tmp_path: Path) -> list[str]:
    data = write_chats(tmp_path / "sums.jsonl", sums(120))
    sizes = ["--length", "64", "--batch", "4", "--micro-batch", "4", "--draft-vocabulary", "64"]
    return ["train", "eagle", "--version", "3", "--target", str(tiny_models / "tiny-deep"), "--data", str(data), *sizes]


def test_a_trained_head_has_the_published_form_and_loses_nothing(
    command: list[str], tiny_models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "head"
    assert main([*command, "--tokens", "1024", "--out", str(out)]) == 0
    tensors, fields = load_file(str(out / SAFE)), json.loads((out / "config.json").read_text())
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items() if "layer" not in name} == {
        "fc.weight": (32, 96), "norm.weight": (32,), "lm_head.weight": (64, 32), "d2t": (64,), "t2d": (320,),
    }  # fmt: skip
    assert tensors["midlayer.self_attn.q_proj.weight"].dtype == torch.bfloat16
    counts = json.loads((out / RANKING_FILE).read_text())["counts"]
    frequent = sorted(ranked(counts)[:64])
    assert (tensors["d2t"] + torch.arange(64)).tolist() == frequent == tensors["t2d"].nonzero()[:, 0].tolist()
    assert (fields["draft_vocab_size"], fields["num_hidden_layers"]) == (64, 1)
    assert fields["eagle_aux_hidden_state_layer_ids"] == [2, 4, 5]
    target = load_model(str(tiny_models / "tiny-deep"))
    expected = build_decoder("ar", target).generate([1, 2, 3], max_new_tokens=12).ids
    for options in ("gamma=2", "depth=2,topk=2,tokens=4"):
        generation = build_decoder(f"eagle:{options}", target, load_model(str(out))).generate([1, 2, 3], 12)
        assert generation.ids == expected
        assert {token for step in generation.steps for token in step.drafted} <= set(frequent)


def test_a_killed_run_goes_on_to_the_same_head(command: list[str], tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    flags = ["--tokens", "512", "--checkpoint-every", "1"]
    assert main([*command, *flags, "--out", str(whole)]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specbench_s2d.training.heads.save_eagle", killed)
        with pytest.raises(SystemExit):
            main([*command, *flags, "--out", str(halves)])
    assert main([*command, *flags, "--out", str(halves)]) == 0
    assert (halves / SAFE).read_bytes() == (whole / SAFE).read_bytes()


def test_learning_lowers_the_loss_over_the_small_vocabulary_and_leaves_the_target_alone() -> None:
    target: Any = tiny_model(layers=8, seed=3)
    with torch.no_grad():
        target.lm_head.weight.mul_(15)
    kept_N = torch.arange(0, 20, 2)
    head = Eagle3Module(target, seed=0, steps=2, ids=kept_N.tolist())
    ids_BT = torch.randint(0, 20, (4, 24), generator=torch.Generator().manual_seed(0))
    learn_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    check_learning(head, target, ids_BT, learn_BT, eagle, 30, kept_N)
    assert all(parameter.grad is None or parameter.requires_grad for parameter in head.parameters())


def test_the_loss_is_the_cross_entropy_under_the_target_over_the_small_vocabulary() -> None:
    target: Any = tiny_model(layers=8, seed=3)
    kept_N = torch.tensor([1, 4, 5, 9])
    head = Eagle3Module(target, seed=0, ids=kept_N.tolist()).train(False)
    ids_BT = torch.randint(0, 20, (2, 9), generator=torch.Generator().manual_seed(0))
    learn_BT = torch.rand(2, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    with torch.no_grad():
        found = eagle.sums_of_losses(head, ids_BT, learn_BT, False, (), kept_N)
        logits_BTV = target(input_ids=ids_BT[:, :-1]).logits[:, 1:, kept_N]  # of the tokens from the third on
        fused_BTD, _ = head.read(ids_BT[:, :-1])
        states_BTD = head(target.get_input_embeddings()(ids_BT[:, 1:-1]), fused_BTD[:, :-1], [])
        q_BTN = (head.norm(states_BTD) @ head.lm_head.weight.T).log_softmax(-1)
    by_position_BT = -(logits_BTV.softmax(-1) * q_BTN).sum(-1)
    assert found.tolist() == pytest.approx([by_position_BT[learn_BT[:, 2:]].sum().item()], rel=1e-5)


def test_muon_takes_the_matrices_of_its_layer_alone() -> None:
    head: Any = Eagle3Module(tiny_model(layers=8), seed=0)
    muon, _ = _optimizers(head, tiny_spec(optimizer="muon"))
    matrices = [p for group in muon.param_groups for p in group["params"]]
    assert {id(p) for p in matrices} == {id(p) for p in head.midlayer.parameters() if p.ndim == 2}
    assert len(matrices) == 7


def test_what_cannot_be_trained_is_refused(
    command: list[str], tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--tokens", "100", "--out", str(tmp_path / "x")]
    assert main([*command, *out, "--target", str(tiny_models / "tiny-target")]) == 2
    assert "tiny-target has 4 layers, and EAGLE-3's head reads the states of three" in capsys.readouterr().err
    assert main([*command, *out, "--version", "2"]) == 2
    assert "--version 2: give 1 or 3; EAGLE-2 is EAGLE-1's head" in capsys.readouterr().err
    assert main([*command, *out, "--draft-vocabulary", "1000"]) == 2
    assert "--draft-vocabulary 1000: the model has 320 ids" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
