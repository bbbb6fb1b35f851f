"""Which attention kernels torch may take while a run lasts, and that nothing of it is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch.backends import cuda

from specbench_s2d.measure.attention import planless_attention, sdpa_facts


@pytest.fixture(autouse=True)
def as_found() -> Iterator[None]:
    was_on = cuda.cudnn_sdp_enabled()
    yield
    cuda.enable_cudnn_sdp(was_on)


@pytest.mark.parametrize("before", [True, False])
def test_cudnn_is_off_inside_and_as_it_was_afterwards(before: bool) -> None:
    cuda.enable_cudnn_sdp(before)
    with planless_attention():
        assert not cuda.cudnn_sdp_enabled()
    assert cuda.cudnn_sdp_enabled() is before
    with pytest.raises(InterruptedError), planless_attention():
        raise InterruptedError
    assert cuda.cudnn_sdp_enabled() is before


def test_the_manifest_names_what_torch_may_choose_from() -> None:
    cuda.enable_cudnn_sdp(True)
    assert sdpa_facts("cuda:0") == {"sdpa_backends": ["flash", "math", "efficient", "cudnn"]}
    with planless_attention():
        assert sdpa_facts("cuda:0") == {"sdpa_backends": ["flash", "math", "efficient"]}
        cuda.enable_flash_sdp(False)  # what a person switched off is not said to be on
        try:
            assert sdpa_facts("cuda")["sdpa_backends"] == ["math", "efficient"]
        finally:
            cuda.enable_flash_sdp(True)


def test_a_cpu_has_two_and_says_so() -> None:
    facts = sdpa_facts("cpu")
    assert facts["sdpa_backends"] == ["flash", "math"]
    assert facts["sdpa_backends_reason"].startswith("cpu:")
