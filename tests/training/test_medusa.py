"""`train medusa`: from a target and chats to heads that draft for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from specbench_s2d import load_model
from specbench_s2d.cli.main import main
from specbench_s2d.runs.folder import read_records
from specbench_s2d.training import medusa
from specbench_s2d.training.medusa import MedusaModule, sums_of_losses
from tests.training.factory import check_learning, sums, tiny_model, write_chats


@pytest.fixture
def command(tiny_models: Path, tmp_path: Path) -> list[str]:
    data = write_chats(tmp_path / "sums.jsonl", sums(120))
    sizes = ["--length", "64", "--batch", "4", "--micro-batch", "4", "--learning-rate", "1e-2", "--heads", "2"]
    return ["train", "medusa", "--target", str(tiny_models / "tiny-target"), "--data", str(data), *sizes]


@pytest.mark.parametrize(("bits", "stored"), [("16", torch.bfloat16), ("8", torch.int8)])
def test_trained_heads_are_a_draft_that_loses_nothing(
    bits: str,
    stored: torch.dtype,
    command: list[str],
    tiny_models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "heads"
    assert main([*command, "--tokens", "2560", "--bits", bits, "--out", str(out)]) == 0
    tensors = load_file(str(out / "medusa_lm_head.safetensors"))
    assert {tensor.dtype for name, tensor in tensors.items() if name.endswith(".weight")} == {stored}
    assert ", acceptance by position 0." in capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == {
        "config.json", "medusa_lm_head.safetensors", "training.json", "README.md", "train_log.jsonl",
        "token_ranking.json",
    }  # fmt: skip
    facts = json.loads((out / "training.json").read_text())
    assert set(facts["acceptance_by_position"]) == {"1", "2"}
    assert "## Held-out acceptance by position" in (out / "README.md").read_text()
    decoders = ["--decoder", "ar,medusa+typical", "--decoder", "medusa:gamma=2", "--decoder", "medusa:tokens=8"]
    grid = ["run", "--target", str(tiny_models / "tiny-target"), "--draft", str(out), *decoders]
    questions = ["--questions", "embedded", "--suite", "qa", "--limit", "2", "--max-new-tokens", "8"]
    assert main([*grid, *questions, "--out", str(tmp_path / "run")]) == 0
    records = read_records(tmp_path / "run")
    drafted = {(r.label, r.draft, r.lossy) for r in records if r.draft}
    assert drafted == {
        ("medusa+typical", "heads", True), ("medusa:gamma=2", "heads", False), ("medusa:tokens=8", "heads", False),
    }  # fmt: skip
    assert all(r.status == "ok" for r in records)
    assert all(r.divergence and r.divergence.verdict != "mismatch" for r in records if r.draft and not r.lossy)


def test_a_killed_run_goes_on_to_the_same_heads(command: list[str], tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    flags = ["--tokens", "1024", "--checkpoint-every", "2", "--share-head", "--blocks", "2"]
    assert main([*command, *flags, "--out", str(whole)]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specbench_s2d.training.heads.save_medusa", killed)
        with pytest.raises(SystemExit):
            main([*command, *flags, "--out", str(halves)])
    assert (tmp_path / "halves.work" / "checkpoint.pt").is_file() and not halves.exists()
    assert main([*command, *flags, "--out", str(halves)]) == 0
    file = "medusa_lm_head.safetensors"
    assert (halves / file).read_bytes() == (whole / file).read_bytes()
    shape = load_model(str(halves)).head_shape
    assert shape is not None and (shape.heads, shape.layers, shape.vocabulary) == (2, 2, None)


def killed(*_: Any, **__: Any) -> None:
    raise SystemExit(9)


def made(heads: int = 2, **form: Any) -> tuple[Any, MedusaModule, torch.Tensor, torch.Tensor]:
    """A target whose distributions are far from uniform, heads, ids and the positions that count."""
    target = tiny_model(seed=3)
    with torch.no_grad():
        target.lm_head.weight.mul_(15)
    ids_BT = torch.randint(0, 20, (3, 12), generator=torch.Generator().manual_seed(0))
    learn_BT = torch.rand(ids_BT.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    return target, MedusaModule(target, heads, **form), ids_BT, learn_BT


def test_heads_start_as_the_targets_own() -> None:
    target, head, ids_BT, _ = made()
    states = head.target_states(ids_BT)
    assert all(torch.equal(head.logits(k, states), target.lm_head(states)) for k in range(2))


@pytest.mark.parametrize("kept", [None, [3, 5, 8, 13, 1]])
def test_losses_are_those_of_the_definition(kept: list[int] | None) -> None:
    """0.8^k times the cross-entropy of head k at t under the target's distribution of token t + 1 + k, one by one."""
    target, head, ids_BT, learn_BT = made(heads=3)
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    vocabulary_V = None if kept is None else torch.tensor(kept)
    expected = [0.0, 0.0, 0.0]
    with torch.no_grad():
        for row, learn in zip(ids_BT, learn_BT, strict=True):
            states = target.model(input_ids=row[None]).last_hidden_state[0]
            for t in range(len(row)):
                for k in (1, 2, 3):
                    if t + 1 + k < len(row) and learn[t + 1 + k]:
                        p, q = target.lm_head(states[t + k]), head.heads[k - 1](states[t])
                        if kept is not None:
                            p, q = p[kept], q[kept]
                        expected[k - 1] -= 0.8**k * float((p.softmax(-1) * q.log_softmax(-1)).sum())
    found = sums_of_losses(head, ids_BT, learn_BT, autocast=False, vocabulary_V=vocabulary_V)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("share_head", [False, True])
def test_learning_lowers_the_held_out_loss_and_leaves_the_target_alone(share_head: bool) -> None:
    target, head, ids_BT, learn_BT = made(share_head=share_head)
    check_learning(head, target, ids_BT, learn_BT, medusa, 20)


def test_choices_stand_at_the_places_they_are_proposed_for() -> None:
    target, head, ids_BT, _ = made(heads=2)
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    drafted_KT, chosen_T = head.choices(ids_BT[:1])
    states = target.model(input_ids=ids_BT[:1]).last_hidden_state[0]
    assert chosen_T.tolist() == [-1, *F.linear(states, target.lm_head.weight).argmax(-1).tolist()[:-1]]
    for k in range(2):
        own = head.heads[k](states).argmax(-1).tolist()
        assert drafted_KT[k].tolist() == [-1] * (2 + k) + own[: 12 - 2 - k]


def test_a_target_that_is_no_llama_is_refused(
    tiny_opt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_chats(tmp_path / "sums.jsonl", sums(60))
    words = ["--target", str(tiny_opt / "tiny-opt"), "--data", str(data), "--tokens", "100"]
    assert main(["train", "medusa", *words, "--out", str(tmp_path / "x")]) == 2
    assert "training takes Llama-family checkpoints" in capsys.readouterr().err and not (tmp_path / "x").exists()
