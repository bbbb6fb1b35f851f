"""EAGLE-3's folders: what is read off them, and what is refused before any weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from specbench_s2d import build_decoder, load_model
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.heads.eagle3_shape import Eagle3Shape
from specbench_s2d.models.memory import plan_memory
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.models.vocabulary import check_pair
from specbench_s2d.models.weight_files import SAFE
from tests.models.heads.made import IDS, write_eagle3
from tests.refusals import refused

Tensors, Fields = dict[str, Tensor], dict[str, Any]
SHALLOW = (
    "tiny-target has 4 layers, and EAGLE-3's head reads the states of three of them (2, L // 2 and L - 3 of L), so it "
    "needs at least 7"
)


@pytest.fixture
def head(tiny_models: Path, tmp_path: Path) -> Path:
    write_eagle3(tiny_models / "tiny-deep", tmp_path / "head")
    return tmp_path / "head"


def edit(head: Path, tensors: Callable[[Tensors], Any] | None = None, **fields: Any) -> Path:
    """Change a folder's tensors and its config's fields; None takes a field out."""
    if tensors:
        stored = load_file(str(head / SAFE))
        tensors(stored)
        save_file(stored, str(head / SAFE))
    config = json.loads((head / "config.json").read_text())
    config = {name: value for name, value in {**config, **fields}.items() if value is not None}
    (head / "config.json").write_text(json.dumps(config))
    return head


def shape_of(head: Path) -> Eagle3Shape:
    shape = resolve_model(str(head)).head_shape
    assert isinstance(shape, Eagle3Shape)
    return shape


def renamed(old: str, new: str) -> Callable[[Tensors], None]:
    def rename(stored: Tensors) -> None:
        for name in [name for name in stored if name.startswith(old)]:
            stored[new + name.removeprefix(old)] = stored.pop(name)

    return rename


def put(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], None]:
    return lambda stored: stored.update({name: change(stored[name]).contiguous()})


def test_it_is_told_by_its_tensors(head: Path) -> None:
    """The number of layers in published configs may be the target's."""
    shape = shape_of(edit(head, num_hidden_layers=36, eagle_aux_hidden_state_layer_ids=None))
    assert (shape.kind, shape.decoder, shape.layers, shape.width) == ("eagle3", "eagle", 1, 32)
    assert shape.ids == tuple(IDS) and load_model(str(head)).depth == 1


@pytest.mark.parametrize(("depth", "layers"), [(7, (2, 3, 4)), (12, (2, 6, 9)), (32, (2, 16, 29)), (80, (2, 40, 77))])
def test_it_reads_the_layers_that_eagle_s_code_does(depth: int, layers: tuple[int, ...], head: Path) -> None:
    assert shape_of(edit(head, eagle_aux_hidden_state_layer_ids=None)).state_layers(depth) == layers


def test_a_config_may_name_the_layers_as_vllm_or_as_sglang_counts_them(head: Path) -> None:
    assert shape_of(edit(head, eagle_aux_hidden_state_layer_ids=[1, 3, 6])).state_layers(8) == (1, 3, 6)
    inner = {"eagle_aux_hidden_state_layer_ids": [1, 3, 6]}
    of_outputs = edit(head, eagle_aux_hidden_state_layer_ids=None, eagle_config=inner)
    assert shape_of(of_outputs).state_layers(8) == (2, 4, 7)


def test_memory_is_that_of_its_own_tensors(head: Path) -> None:
    """fc 32 x 96; q, k, v 64 (32 + 16 + 16) x 64, o 32 x 32; gate, up, down 3 x 32 x 64; 4 norms; head 160 x 32, in
    float32 on the host."""
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        plan = plan_memory(resolve_model(str(head)), dtype, positions=100, on_host=True)
        layer = 32 * 96 + 64 * 64 + 32 * 32 + 3 * 32 * 64 + 4 * 32
        assert plan.weights_bytes == size * layer + 4 * 160 * 32
        assert plan.weights_bytes == load_model(str(head), dtype=str(dtype).removeprefix("torch.")).parameter_bytes


def test_a_target_that_is_too_shallow_is_refused_before_weights_load(head: Path, tiny_models: Path) -> None:
    target = resolve_model(str(tiny_models / "tiny-target"))
    with refused(ModelError, SHALLOW):
        check_pair(target, resolve_model(str(edit(head, eagle_aux_hidden_state_layer_ids=None))))
    with refused(ModelError, "reads the states of layers 2, 4, 5 by its config, and tiny-target has 4 layers"):
        check_pair(target, resolve_model(str(edit(head, eagle_aux_hidden_state_layer_ids=[2, 4, 5]))))


def test_a_small_vocabulary_beside_its_own_is_refused(head: Path, tiny_models: Path) -> None:
    target = load_model(str(tiny_models / "tiny-deep"))
    with refused(UserError, "draft_vocabulary=50: head is an EAGLE-3 head with an LM head of its own over 160 ids"):
        build_decoder("eagle:draft_vocabulary=50", target, load_model(str(head)))


D2T = "d2t"
REFUSED: dict[str, tuple[Callable[[Tensors], Any] | None, Fields, tuple[str, ...]]] = {
    "an EAGLE-1 head with these names": (
        put("fc.weight", lambda w: w[:, :64]), {}, ("fc.weight is (D, 3 x the target's width)", "they are (32, 64)"),
    ),
    "a prefix": (renamed("midlayer.", "model.midlayer."), {}, ("'model.midlayer.", "without a prefix")),
    "speculators' config": (None, {"transformer_layer_config": {}}, ("'transformer_layer_config' in config.json",)),
    "another residual": (None, {"norm_before_residual": True}, ("norm_before_residual is true", "not known here")),
    "no three states": (None, {"eagle_config": {"use_aux_hidden_state": False}}, ("use_aux_hidden_state is false",)),
    "a second layer": (
        lambda stored: stored.update({"layers.1.mlp.up_proj.weight": torch.zeros(64, 32)}), {},
        ("with 'layers.1.mlp.up_proj.weight'", "one layer"),
    ),
    "a bias": (lambda stored: stored.update({"fc.bias": torch.zeros(32)}), {}, ("with 'fc.bias'", "no biases")),
    "no norm": (lambda stored: stored.pop("norm.weight"), {}, ("without 'norm.weight'",)),
    "no fc": (lambda stored: stored.pop("fc.weight"), {}, ("named as EAGLE-3's, without fc.weight",)),
    "other heads": (
        None, {"num_attention_heads": 2, "head_dim": 8}, ("q_proj.weight' is (32, 64)", "it is (16, 64)"),
    ),
    "another draft_vocab_size": (
        None, {"draft_vocab_size": 128}, ("draft_vocab_size is 128, and lm_head.weight has 160 rows",),
    ),
    "a short map": (put(D2T, lambda d2t: d2t[:100]), {}, ("d2t is (100,), and lm_head.weight has 160 rows",)),
    "no map": (
        lambda stored: stored.pop(D2T), {}, ("lm_head.weight has 160 rows and the target 320 ids", "needs the map d2t"),
    ),
    "an id that is not there": (
        put(D2T, lambda d2t: torch.cat((d2t[:-1], d2t[-1:] + 1))), {},
        ("d2t leads draft id 159 to target id 320, and there are 320 ids",),
    ),
    "an id twice": (
        put(D2T, lambda d2t: torch.cat((d2t[:1], d2t[:1] - 1, d2t[2:]))), {}, ("160 draft ids to 159 target ids",),
    ),
    "maps that disagree": (
        put("t2d", lambda t2d: t2d.roll(1)), {}, ("t2d marks 160 target ids and d2t leads to 160, 0 of them the same",),
    ),
    "one layer": (None, {"eagle_aux_hidden_state_layer_ids": 2}, ("layer_ids is 2, and must be three layers",)),
    "two layers": (
        None, {"eagle_aux_hidden_state_layer_ids": [2, 4]}, ("layer_ids is [2, 4], and must be three layers",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_the_published_form_is_refused_before_weights_load(what: str, head: Path) -> None:
    change, fields, said = REFUSED[what]
    edit(head, change, **fields)
    with refused(ModelError, "head: ", *said):
        shape_of(head)


def test_a_head_narrower_than_its_target_needs_an_embedding(tiny_models: Path, head: Path) -> None:
    edit(head, put("fc.weight", lambda w: torch.cat((w, w), dim=1)))
    with refused(ModelError, "its width is 32 and the target's 64 (fc.weight (32, 192))", "needs its own embed_tokens"):
        shape_of(head)
