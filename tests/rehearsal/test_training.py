"""Training on the rehearsed device: all of a step but the backward pass, for which torch's CPU build has no engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from specbench_s2d.training import trainer
from specbench_s2d.training.init_model import ModelSource
from specbench_s2d.training.jobs import Corpus, train_model
from tests.rehearsal.counts import Counts
from tests.training.factory import SHAPE, sums, tiny_spec, tiny_tokenizer, write_chats


@pytest.fixture
def constant_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a backward pass, the same small gradient everywhere."""
    models: list[PreTrainedModel] = []
    real = trainer._optimizer_step

    def step(model: PreTrainedModel, *arguments: Any) -> float:
        models[:] = [model]
        return real(model, *arguments)

    def backward(loss: Tensor) -> None:
        assert torch.isfinite(loss.detach().cpu())
        for parameter in models[0].parameters():
            parameter.grad = torch.full_like(parameter, 1e-3)

    monkeypatch.setattr(trainer, "_optimizer_step", step)
    monkeypatch.setattr(torch.autograd, "backward", backward)


@pytest.mark.usefixtures("constant_gradients")
@pytest.mark.parametrize("autocast", [False, True])
def test_steps_checkpoints_and_validation_give_what_they_do_on_the_cpu(
    counts: Counts, tmp_path: Path, autocast: bool
) -> None:
    corpus = Corpus([str(write_chats(tmp_path / "sums.jsonl", sums(200)))])
    weights = []
    for device in ("cpu", "cuda"):
        spec = tiny_spec(steps=5, length=40, tokens=800, device=device, autocast=autocast)
        out = tmp_path / device
        train_model(device, ModelSource("new", shape=SHAPE), tiny_tokenizer(), corpus, out=out, spec=spec, command="x")
        weights.append(AutoModelForCausalLM.from_pretrained(str(out)).state_dict())
    assert counts.launches > 100
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
