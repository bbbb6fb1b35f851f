"""Devices by name: one, or all GPUs together; and what is free on them."""

from __future__ import annotations

import pytest
import torch

from specbench_s2d.models.devices import (
    all_devices,
    check_device,
    device_index,
    driver_free_bytes,
    first_device,
    free_by_device,
    free_bytes,
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


def test_free_memory_is_each_devices_own(gpus: None) -> None:
    assert [free_bytes(name) for name in ("cuda", "cuda:0", "cuda:1")] == [13, 13, 23]
    assert [driver_free_bytes(name) for name in ("cuda", "cuda:1")] == [10, 20]
    assert free_by_device("auto") == {"cuda:0": 13, "cuda:1": 23}
    assert free_by_device("cuda:1", {"cuda:1": 5}.__getitem__) == {"cuda:1": 5}
    assert [device_index(name) for name in ("cuda", "cuda:3")] == [0, 3]


def test_free_memory_of_the_host_is_the_systems() -> None:
    assert 2**20 < free_bytes("cpu") < 2**50
