"""What a folder of a draft head holds, told by its tensors; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from specbench_s2d import load_model
from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import FINAL, PassKind, without_states
from specbench_s2d.models.memory import plan_memory
from specbench_s2d.models.resolve import resolve_model
from tests.models.heads.made import write_head
from tests.refusals import refused


@pytest.fixture
def head(tiny_models: Path, tmp_path: Path) -> Path:
    write_head(tiny_models / "tiny-target", tmp_path / "head")
    return tmp_path / "head"


def test_a_head_is_told_by_its_tensors_and_a_model_is_none(head: Path, tiny_models: Path) -> None:
    found = resolve_model(str(head)).head_shape
    assert found is not None and (found.kind, found.layers, found.width) == ("eagle", 1, 32)
    assert resolve_model(str(tiny_models / "tiny-target")).head_shape is None


def test_the_number_of_layers_is_that_of_the_tensors(head: Path) -> None:
    """Published configs have the target's."""
    fields = json.loads((head / "config.json").read_text())
    (head / "config.json").write_text(json.dumps({**fields, "num_hidden_layers": 32}))
    assert load_model(str(head)).depth == 1


def test_a_head_of_an_unknown_kind_says_what_was_found(head: Path) -> None:
    tensors = load_file(str(head / "model.safetensors"))
    tensors["fc.weight"] = torch.zeros(32, 96)
    save_file(tensors, str(head / "model.safetensors"))
    with refused(ModelError, "a draft head of a kind that is not known here", "fc.weight is (32, 96)", "layers.0"):
        load_model(str(head))


def test_a_head_is_no_target(head: Path) -> None:
    with refused(ModelError, "is a draft head, which reads a target's states"):
        load_model(str(head)).extend(torch.tensor([[1, 2]]))


def test_memory_is_that_of_its_own_layers(head: Path) -> None:
    """fc 32 x 64 + 32; q, k, v, o 32 x (32 + 16 + 16 + 32); gate, up, down 3 x 32 x 64; one norm."""
    plan = plan_memory(resolve_model(str(head)), torch.float32, positions=100)
    assert plan.weights_bytes == 4 * (32 * 64 + 32 + 32 * 96 + 3 * 32 * 64 + 32)
    assert plan.weights_bytes == load_model(str(head)).parameter_bytes


def test_passes_that_read_states_are_cut_where_these_are() -> None:
    kinds = [PassKind(5, seen=5), PassKind(3, states=(2, FINAL))]
    assert without_states(kinds, 4) == [
        PassKind(5, seen=5), PassKind(3, 0, 2), PassKind(3, 2, 4), PassKind(3, from_layer=4),
    ]  # fmt: skip
