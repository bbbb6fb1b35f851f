"""Devices by name: one, or all GPUs together; and what is free on them."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from specbench_s2d.models.devices import (
    all_devices,
    check_device,
    default_dtype,
    device_index,
    driver_free_bytes,
    dtype_by_default,
    find_dtype,
    first_device,
    free_by_device,
    free_bytes,
    release_memory,
)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch saw two GPUs: 10 and 20 bytes free, and 3 more on each that torch holds unused."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * (1 + (device.index or 0)), 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4)


def test_auto_is_all_gpus_and_first_of_all_the_first(gpus: None) -> None:
    assert all_devices("auto") == ["cuda:0", "cuda:1"]
    assert first_device("auto") == "cuda:0"
    assert check_device("auto") == torch.device("cuda:0")
    for name in ("cpu", "cuda", "cuda:1"):
        assert (all_devices(name), first_device(name), check_device(name)) == ([name], name, torch.device(name))


def test_the_default_dtype_is_what_every_gpu_multiplies(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 since Ampere (8.0); before it float16, with the reason."""
    capabilities = {"cuda": (9, 0), "cuda:0": (9, 0), "cuda:1": (7, 5)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Tesla of {device}")
    assert [default_dtype(device) for device in ("cpu", "cuda", "cuda:1")] == ["float32", "bfloat16", "float16"]
    said = "Tesla of cuda:1, of compute capability 7.5: bfloat16 takes 8.0 (Ampere) or newer"
    assert dtype_by_default("auto") == ("float16", f"the default on {said}")
    assert find_dtype(None, "cuda:1") == torch.float16 and find_dtype("bfloat16", "cuda:1") == torch.bfloat16
    capabilities["cuda:1"] = (8, 0)
    assert default_dtype("cuda:1") == default_dtype("auto") == "bfloat16"


def test_memory_is_released_in_cycles_too_and_a_lost_gpu_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    class Held:
        """Refers to itself."""

    held = Held()
    held.itself = held  # type: ignore[attr-defined]
    gone = weakref.ref(held)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    gc.disable()
    try:
        del held
        release_memory()
        assert gone() is None
    finally:
        gc.enable()


def test_free_memory_is_each_devices_own(gpus: None) -> None:
    assert [free_bytes(name) for name in ("cuda", "cuda:0", "cuda:1")] == [13, 13, 23]
    assert [driver_free_bytes(name) for name in ("cuda", "cuda:1")] == [10, 20]
    assert free_by_device("auto") == {"cuda:0": 13, "cuda:1": 23}
    assert free_by_device("cuda:1", {"cuda:1": 5}.__getitem__) == {"cuda:1": 5}
    assert [device_index(name) for name in ("cuda", "cuda:3")] == [0, 3]


def test_free_memory_of_the_host_is_the_systems() -> None:
    assert 2**20 < free_bytes("cpu") < 2**50
