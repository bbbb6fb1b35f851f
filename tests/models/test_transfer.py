"""Numbers on their way to the device."""

from __future__ import annotations

import pytest
import torch

from specbench_s2d.models.transfer import to_device


@pytest.mark.parametrize("numbers", [[3, 1], [[3, 1], [0, 2]], [], [[]]], ids=["flat", "rows", "none", "an empty row"])
def test_numbers_arrive_as_they_are(numbers: list[int]) -> None:
    sent = to_device(numbers, torch.device("cpu"))
    assert sent.tolist() == numbers and sent.dtype == torch.long


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_to_a_gpu_they_go_without_a_wait() -> None:
    device = torch.device("cuda")
    to_device([1], device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sent = to_device([[5, 6]], device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sent.tolist() == [[5, 6]]
