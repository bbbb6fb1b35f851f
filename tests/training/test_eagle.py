"""`train eagle`: from a target and chats to a head that drafts for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from specbench_s2d import build_decoder, load_model
from specbench_s2d.cli.main import main
from specbench_s2d.runs.folder import read_manifest, read_records
from specbench_s2d.training import eagle
from specbench_s2d.training.eagle import EagleModule
from tests.training.factory import check_learning, sums, tiny_model, write_chats


@pytest.fixture
def command(tiny_models: Path, tmp_path: Path) -> list[str]:
    data = write_chats(tmp_path / "sums.jsonl", sums(120))
    sizes = ["--length", "64", "--batch", "4", "--micro-batch", "4", "--learning-rate", "1e-2"]
    return ["train", "eagle", "--target", str(tiny_models / "tiny-target"), "--data", str(data), *sizes]


def test_a_trained_head_is_a_draft_that_loses_nothing(
    command: list[str], tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "head"
    assert main([*command, "--tokens", "5120", "--steps", "2", "--out", str(out)]) == 0
    assert "held-out perplexity" in capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == {
        "config.json", "model.safetensors", "training.json", "README.md", "train_log.jsonl", "token_ranking.json",
    }  # fmt: skip
    grid = ["run", "--target", str(tiny_models / "tiny-target"), "--draft", str(tiny_models / "tiny-draft")]
    decoders = ["--decoder", "ar,sd", "--decoder", "eagle:gamma=2", "--decoder", "eagle:depth=2,topk=2,tokens=4"]
    questions = ["--questions", "embedded", "--suite", "qa", "--limit", "2", "--max-new-tokens", "8"]
    assert main([*grid, "--draft", str(out), *decoders, *questions, "--out", str(tmp_path / "run")]) == 0
    records = read_records(tmp_path / "run")
    assert {(r.label, r.draft) for r in records if r.draft} == {
        ("sd", "tiny-draft"), ("eagle:gamma=2", "head"), ("eagle:depth=2,topk=2,tokens=4", "head"),
    }  # fmt: skip
    assert all(r.status == "ok" for r in records)
    assert read_manifest(tmp_path / "run")["targets"]["tiny-target"]["heads"] == {"head": "eagle"}
    assert all(r.divergence and r.divergence.verdict != "mismatch" for r in records if r.draft)


def test_a_killed_run_goes_on_to_the_same_head(command: list[str], tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    flags = ["--tokens", "1024", "--checkpoint-every", "2", "--device", "cpu"]
    assert main([*command, *flags, "--out", str(whole)]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specbench_s2d.training.heads.save_eagle", killed)
        with pytest.raises(SystemExit):
            main([*command, *flags, "--out", str(halves)])
    assert (tmp_path / "halves.work" / "checkpoint.pt").is_file() and not halves.exists()
    assert main([*command, *flags, "--out", str(halves)]) == 0
    assert (halves / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def killed(*_: Any, **__: Any) -> None:
    raise SystemExit(9)


def test_learning_lowers_the_held_out_loss_and_leaves_the_target_alone() -> None:
    target = tiny_model(seed=3)
    with torch.no_grad():
        target.lm_head.weight.mul_(15)  # so that its distributions are far from uniform
    head = EagleModule(target, seed=0, steps=2)
    ids_BT = torch.randint(0, 20, (4, 24), generator=torch.Generator().manual_seed(0))
    learn_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    check_learning(head, target, ids_BT, learn_BT, eagle, 30)


def test_a_target_that_is_no_llama_is_refused(
    tiny_opt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_chats(tmp_path / "sums.jsonl", sums(60))
    words = [
        "--target",
        str(tiny_opt / "tiny-opt"),
        "--data",
        str(data),
        "--tokens",
        "100",
        "--out",
        str(tmp_path / "x"),
    ]
    assert main(["train", "eagle", *words]) == 2
    err = capsys.readouterr().err
    assert "training takes Llama-family checkpoints" in err and not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", ["eagle", "medusa"])
def test_other_bits_are_refused_before_anything_is_read(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--target", "no-such-model", "--data", "no-such-file", "--tokens", "100", "--out", str(tmp_path / "x")]
    assert main(["train", kind, "--bits", "4", *words]) == 2
    assert "--bits 4: a head is stored in 8 or 16 bits." in capsys.readouterr().err


def test_the_python_api_takes_a_head_in_8_bits(tiny_models: Path, tmp_path: Path, command: list[str]) -> None:
    assert main([*command, "--tokens", "256", "--bits", "8", "--out", str(tmp_path / "head")]) == 0
    stored = load_file(str(tmp_path / "head" / "model.safetensors"))
    assert (
        {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
        == {name for name, tensor in stored.items() if tensor.ndim == 2 and name.endswith(".weight")}
        != set()
    )
    assert "_name_or_path" not in json.loads((tmp_path / "head" / "config.json").read_text())
    target, head = load_model(str(tiny_models / "tiny-target")), load_model(str(tmp_path / "head"))
    generation = build_decoder("eagle", target=target, draft=head, gamma=2).generate([1, 2, 3], max_new_tokens=8)
    assert generation.ids and all(len(step.drafted) <= 2 for step in generation.steps)
