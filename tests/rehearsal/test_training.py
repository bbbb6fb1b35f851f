"""Training on the rehearsed device: all of a step but the backward pass, which torch's CPU build has no engine for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from specbench_s2d.training.init_model import ModelSource
from specbench_s2d.training.jobs import Corpus, train_model
from specbench_s2d.training.trainer import train
from tests.rehearsal.counts import Counts
from tests.training.factory import SIZE, sums, tiny_spec, tiny_tokenizer, write_chats


def train_with_constant_gradients(model: PreTrainedModel, *given: Any) -> list[dict[str, Any]]:
    """`train`, with the same small gradient everywhere in place of a backward pass."""

    def backward(loss: Tensor) -> None:
        assert torch.isfinite(loss.detach().cpu())
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 1e-3)

    return train(model, *given, backward=backward)


@pytest.mark.parametrize("autocast", [False, True])
def test_steps_checkpoints_and_validation_give_what_they_do_on_the_cpu(
    counts: Counts, tmp_path: Path, autocast: bool
) -> None:
    corpus = Corpus([str(write_chats(tmp_path / "sums.jsonl", sums(200)))])
    weights = []
    for device in ("cpu", "cuda"):
        spec = tiny_spec(steps=5, length=40, tokens=800, device=device, autocast=autocast)
        out, source = tmp_path / device, ModelSource("new", size=SIZE)
        given = {"spec": spec, "out": out, "command": "x", "trainer": train_with_constant_gradients}
        train_model(device, source, tiny_tokenizer(), corpus, **given)
        weights.append(AutoModelForCausalLM.from_pretrained(str(out)).state_dict())
    assert counts.launches > 100
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
