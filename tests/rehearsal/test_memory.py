"""Memory of the rehearsed device: pools of graphs, and weights on their way there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from specbench_s2d import load_model
from specbench_s2d.models.base import PassKind
from specbench_s2d.models.engines.capture import CudaCapture
from specbench_s2d.models.load import tensor_reader
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.models.transfer import loaded_to, to_device
from tests.rehearsal.counts import Counts
from tests.rehearsal.rules import RefusedError

CUDA = torch.device("cuda")


def test_one_pool_serves_an_engine_however_often_its_cache_grows(counts: Counts, tiny_models: Path) -> None:
    model = load_model(str(tiny_models / "tiny-target"), "cuda", "float32", engine="cuda-graphs")
    captured = []
    for length in (40, 600, 1100):
        model.reserve(length)
        model.prepare([PassKind(3)])
        model.extend(to_device([[5, 6, 7]], model.device))
        captured.append(model.engine_facts["captures"])
    assert captured[0] < captured[1] < captured[2], "the cache grew, and graphs were captured anew"
    assert counts.pools == 1 and model.engine_facts["unannounced"] == 0


def test_a_pool_with_a_failed_capture_is_given_up(counts: Counts) -> None:
    """torch refuses captures into it, and into one whose graphs were all released."""
    capture, numbers = CudaCapture(CUDA), torch.zeros(2, device=CUDA)
    first = capture.capture(lambda: numbers.add_(1))
    del first
    second = capture.capture(lambda: numbers.add_(1))
    assert counts.pools == 1
    before = int(numbers[0])
    second()
    assert int(numbers[0]) == before + 1

    def reads() -> None:
        numbers.tolist()

    with pytest.raises(RefusedError, match="capturing"):
        capture.capture(reads)
    capture.capture(lambda: numbers.add_(1))()
    assert counts.pools == 2


@pytest.mark.parametrize(
    ("stored", "wanted", "converted_there"),
    [
        (torch.float16, torch.bfloat16, True),
        (torch.bfloat16, torch.float32, True),
        (torch.float32, torch.bfloat16, False),  # half of the bytes cross
        (torch.bfloat16, torch.bfloat16, False),
    ],
    ids=str,
)
def test_weights_no_wider_than_wanted_are_converted_on_the_device(
    counts: Counts, stored: torch.dtype, wanted: torch.dtype, converted_there: bool
) -> None:
    tensor = torch.tensor([1.5, -2.0], dtype=stored)
    counts.clear()
    loaded = loaded_to(CUDA, wanted, tensor)
    assert counts.by_name == {"copy_to_device": 1, **({"_to_copy": 1} if converted_there else {})}
    assert loaded.dtype == wanted and loaded.device.type == "cuda" and loaded.tolist() == [1.5, -2.0]


def test_a_checkpoint_in_float16_is_converted_there_tensor_by_tensor(
    counts: Counts, tiny_models: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_models / "tiny-target", tmp_path / "half")
    weights = {name: tensor.half() for name, tensor in load_file(tmp_path / "half" / "model.safetensors").items()}
    save_file(weights, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    read = tensor_reader(resolve_model(str(tmp_path / "half")), CUDA, torch.bfloat16)
    counts.clear()
    for name, tensor in weights.items():
        assert torch.equal(read(name).cpu(), tensor.bfloat16())
    assert counts.by_name["_to_copy"] == len(weights)
