"""A GPU's facts by NVML: found by its UUID, each in its unit, and why what is not known is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pynvml
import pytest
import torch

from specbench_s2d.measure.gpu import gpu_facts, gpu_state, throttle_names
from tests.measure.nvml import processes, refuse, replay_nvml


@pytest.mark.parametrize("ask", [gpu_facts, gpu_state])
def test_a_run_on_a_cpu_has_no_gpu_and_says_so(ask: Callable[[str], dict[str, Any]]) -> None:
    assert ask("cpu") == {"name": None, "reason": "the run used cpu"}


def test_a_gpu_is_found_by_the_uuid_that_torch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by its index: CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's."""
    asked = replay_nvml(monkeypatch)
    facts = gpu_facts("cuda:0")
    assert asked == ["GPU-1234-ab"]
    assert facts == {
        "name": "NVIDIA H100",
        "uuid": "GPU-1234-ab",
        "driver": "550.1",
        "memory_bytes": 80 * 2**30,
        "power_limit_w": 650.0,
        "default_power_limit_w": 700.0,
        "max_power_limit_w": 750.0,
        "max_sm_clock_mhz": 1980,
        "max_memory_clock_mhz": 2619,
        "ecc": True,
        "persistence_mode": True,
        "mig": False,
        "utilization_percent": 3,
    }


def test_its_state_is_clocks_heat_power_and_throttling(monkeypatch: pytest.MonkeyPatch) -> None:
    replay_nvml(monkeypatch)
    assert gpu_state("cuda") == {
        "name": "H100 by torch",
        "sm_clock_mhz": 1755,
        "memory_clock_mhz": 2619,
        "temperature_c": 41,
        "power_w": 112.5,
        "throttle_reasons": ["power cap"],
        "power_throttled_s": 2.5,
        "thermal_throttled_s": 0.0,
        "other_processes": 0,
    }


def test_what_a_gpu_does_not_tell_is_none_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    replay_nvml(monkeypatch, nvmlDeviceGetTemperature=refuse)
    state = gpu_state("cuda")
    assert state["temperature_c"] is None
    assert "Not Supported" in state["temperature_c_reason"]
    assert state["sm_clock_mhz"] == 1755


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_without_nvml_the_name_is_torchs_and_there_is_a_reason(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replay_nvml(monkeypatch, **{function: refuse})
    facts = gpu_facts("cuda")
    assert facts["name"] == "H100 by torch"
    assert facts["reason"].startswith("NVML: ")


def test_clocks_that_idle_or_that_a_person_set_are_not_held_down() -> None:
    own = pynvml.nvmlClocksThrottleReasonGpuIdle | pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting
    assert throttle_names(own) == []
    heat = pynvml.nvmlClocksThrottleReasonHwSlowdown | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    assert throttle_names(own | heat) == ["hardware slow-down", "heat (hardware)"]


@pytest.mark.parametrize(
    ("pids", "reserved_bytes", "others"),
    [
        ([os.getpid()], 1, 0),
        ([os.getpid(), 1], 1, 1),
        ([1, 2], 0, 2),  # this process has nothing on the GPU yet
        ([1, 2], 1, 1),  # a container, where NVML knows this process by another number
        ([], 1, 0),
    ],
)
def test_this_process_is_none_of_the_others(
    pids: list[int], reserved_bytes: int, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay_nvml(monkeypatch, nvmlDeviceGetComputeRunningProcesses=processes(*pids))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved_bytes)
    assert gpu_state("cuda")["other_processes"] == others


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_answers() -> None:
    facts, state = gpu_facts("cuda"), gpu_state("cuda")
    assert facts["name"] and facts["uuid"] and facts["driver"]
    assert 0 < state["sm_clock_mhz"] <= facts["max_sm_clock_mhz"]
