"""Heads in 8 bits: the error of a weight, what a folder holds, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from specbench_s2d import build_decoder, load_model
from specbench_s2d.errors import ModelError
from specbench_s2d.models.heads.eight_bits import in_bits, unscaled
from specbench_s2d.models.load import tensor_reader
from specbench_s2d.models.memory import plan_memory
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.training.heads import save_eagle
from tests.models.heads.made import write_eagle3, write_head
from tests.refusals import refused

SAFE = "model.safetensors"


@pytest.fixture
def head(tiny_models: Path, tmp_path: Path) -> Path:
    """The same head in 16 bits (`head`) and in 8 (`small`)."""
    module = write_head(tiny_models / "tiny-target", tmp_path / "head")
    (tmp_path / "small").mkdir()
    save_eagle(module, tmp_path / "small", "tiny-target", bits=8)
    return tmp_path / "head"


def test_a_row_by_hand() -> None:
    stored = in_bits({"fc.weight": torch.tensor([[1.0, -127.0, 62.6], [0.0, 0.0, 0.0], [0.0, 0.254, 0.0011]])}, 8)
    assert stored["fc.weight"].dtype == torch.int8
    assert stored["fc.weight"].tolist() == [[1, -127, 63], [0, 0, 0], [0, 127, 1]]
    assert stored["fc.weight_scale"].flatten().tolist() == pytest.approx([1.0, 1.0, 0.002])


def test_a_weight_differs_by_half_a_step_at_most() -> None:
    made = torch.Generator().manual_seed(0)
    rows_RC = torch.randn(64, 48, generator=made) * torch.logspace(-6, 6, 64)[:, None]
    read_RC = unscaled(in_bits({"fc.weight": rows_RC}, 8).__getitem__, "head")("fc.weight")
    half_R1 = rows_RC.abs().amax(-1, keepdim=True) / 127 / 2
    error_RC = (read_RC - rows_RC).abs()
    assert bool((error_RC <= half_R1 * 1.0001).all())
    assert float((error_RC / half_R1).max()) > 0.9  # and no better than 8 bits can be


def test_norms_biases_and_maps_stay_as_they_are() -> None:
    tensors = {"fc.bias": torch.randn(4), "norm.weight": torch.ones(4), "d2t": torch.arange(4)}
    stored = in_bits(tensors, 8)
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "fc.bias": torch.bfloat16, "norm.weight": torch.bfloat16, "d2t": torch.int64,
    }  # fmt: skip


def read_all(folder: Path) -> dict[str, Tensor]:
    """The tensors of a head as its folder is loaded."""
    model = resolve_model(str(folder))
    assert model.head_shape is not None
    read = tensor_reader(model, torch.device("cpu"), torch.float32)
    return {name: read(name) for name in model.head_shape.shapes}


def test_a_folder_in_8_bits_loads_to_half_a_step_and_takes_half_the_room(head: Path) -> None:
    small = head.with_name("small")
    exact, loaded = read_all(head), read_all(small)
    assert exact.keys() == loaded.keys()
    for name, tensor in exact.items():
        half = tensor.abs().amax(-1, keepdim=True) / 127 / 2 if tensor.ndim == 2 else torch.zeros(())
        error = (loaded[name] - tensor).abs()
        assert bool((error <= half * 1.0001).all()) and (tensor.ndim < 2 or float(error.max()) > 0)
    bytes_of = load_model(str(small)).parameter_bytes
    assert plan_memory(resolve_model(str(small)), torch.float32).weights_bytes == bytes_of
    assert bytes_of == load_model(str(head)).parameter_bytes
    stored = [sum(t.nbytes for t in load_file(str(folder / SAFE)).values()) for folder in (small, head)]
    assert stored[0] < 0.6 * stored[1]


def test_pickled_weights_in_8_bits_load_alike(head: Path) -> None:
    small = head.with_name("small")
    before = read_all(small)
    torch.save(load_file(str(small / SAFE)), small / "pytorch_model.bin")
    (small / SAFE).unlink()
    after = read_all(small)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_greedy_ids_are_ars(head: Path, tiny_models: Path) -> None:
    target = load_model(str(tiny_models / "tiny-target"))
    small = load_model(str(head.with_name("small")))
    wanted = build_decoder("ar", target=target).generate([3, 1, 4, 1, 5], max_new_tokens=24).ids
    assert build_decoder("eagle:gamma=3", target=target, draft=small).generate([3, 1, 4, 1, 5], 24).ids == wanted


def test_an_eagle_3_head_in_8_bits_loads_and_drafts(tiny_models: Path, tmp_path: Path) -> None:
    deep, small = tiny_models / "tiny-deep", tmp_path / "small"
    module = write_eagle3(deep, tmp_path / "head")
    small.mkdir()
    save_eagle(module, small, "tiny-deep", bits=8)
    target, prompt = load_model(str(deep)), [3, 1, 4, 1, 5]
    wanted = build_decoder("ar", target=target).generate(prompt, max_new_tokens=24).ids
    decoder = build_decoder("eagle:gamma=3", target=target, draft=load_model(str(small)))
    assert decoder.generate(prompt, 24).ids == wanted


def changed(head: Path, name: str, to: Tensor | None) -> Path:
    """The folder in 8 bits with one tensor replaced, or without it."""
    small = head.with_name("small")
    tensors = load_file(str(small / SAFE)) | ({} if to is None else {name: to})
    save_file({key: tensor for key, tensor in tensors.items() if to is not None or key != name}, str(small / SAFE))
    return small


@pytest.mark.parametrize(("to", "found"), [(torch.ones(1), "(1,)"), (torch.ones(3, 1), "(3, 1)")])
def test_scales_that_are_not_one_a_row_are_refused_before_loading(head: Path, to: Tensor, found: str) -> None:
    small = changed(head, "fc.weight_scale", to)
    with refused(ModelError, "'fc.weight_scale' is " + found, "a weight of (32, 64)", "a scale (rows, 1)"):
        _ = resolve_model(str(small)).head_shape


def test_a_scale_without_its_matrix_is_refused(head: Path) -> None:
    with refused(ModelError, "'odd.weight_scale' is (3, 1), beside a weight of none"):
        load_model(str(changed(head, "odd.weight_scale", torch.ones(3, 1))))


def test_int8_without_scales_is_refused(head: Path) -> None:
    with refused(ModelError, "small: 'fc.weight' is stored as int8 without 'fc.weight_scale'"):
        load_model(str(changed(head, "fc.weight_scale", None)))


def test_other_types_with_scales_are_refused(head: Path) -> None:
    with refused(ModelError, "'fc.weight' is float8_e4m3fn with a scale in float32", "has int8 with scales"):
        load_model(str(changed(head, "fc.weight", torch.zeros(32, 64).to(torch.float8_e4m3fn))))
    changed(head, "fc.weight", torch.zeros(32, 64, dtype=torch.int8))
    with refused(ModelError, "'fc.weight' is int8 with a scale in int32"):
        load_model(str(changed(head, "fc.weight_scale", torch.ones(32, 1, dtype=torch.int32))))


def test_scales_that_are_no_numbers_are_refused(head: Path) -> None:
    with refused(ModelError, "values of 'fc.weight' are NaN or inf"):
        load_model(str(changed(head, "fc.weight_scale", torch.full((32, 1), torch.inf))))


def test_a_dense_model_in_8_bits_is_refused_as_before(tiny_models: Path, tmp_path: Path) -> None:
    source, folder = tiny_models / "tiny-target", tmp_path / "dense"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    save_file(in_bits(load_file(str(source / SAFE)), 8), str(folder / SAFE))
    with refused(ModelError, "is stored as int8, and config.json has no quantization_config"):
        load_model(str(folder))
