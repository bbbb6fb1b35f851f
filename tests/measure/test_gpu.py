"""A GPU's facts by NVML: found by its UUID, each in its unit, and why what is not known is not."""

from __future__ import annotations

import os

import pynvml
import pytest
import torch

from specbench_s2d.measure.gpu import GpuProbe
from tests.measure.nvml import FakeCuda, FakeNvml, processes, refuse


def probe(nvml: FakeNvml, device: str = "cuda:0", held_bytes: int = 0) -> GpuProbe:
    return GpuProbe(device, lambda name: FakeCuda(name, held_bytes), nvml.open)


def test_a_run_on_a_cpu_has_no_gpu_and_says_so() -> None:
    on_cpu = GpuProbe("cpu")
    assert on_cpu.facts() == on_cpu.state() == {"name": None, "reason": "the run used cpu"}


def test_a_gpu_is_found_by_the_uuid_that_torch_gives() -> None:
    """Not by its index: CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's."""
    nvml = FakeNvml()
    facts = probe(nvml).facts()
    assert nvml.asked == ["GPU-of-cuda:0"]
    assert facts == {
        "name": "NVIDIA H100",
        "uuid": "GPU-of-cuda:0",
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


def test_its_state_is_clocks_heat_power_and_throttling() -> None:
    assert probe(FakeNvml(throttled=pynvml.nvmlClocksThrottleReasonSwPowerCap)).state() == {
        "name": "H100 by torch",
        "sm_clock_mhz": 1755,
        "memory_clock_mhz": 2619,
        "temperature_c": 41,
        "power_w": 112.5,
        "throttle_reasons": ["power limit"],
        "power_throttled_s": 2.5,
        "thermal_throttled_s": 0.0,
        "other_processes": 0,
    }


def test_what_a_gpu_does_not_tell_is_none_with_a_reason() -> None:
    state = probe(FakeNvml(nvmlDeviceGetTemperature=refuse())).state()
    assert (state["temperature_c"], state["temperature_c_reason"]) == (None, "Not Supported")
    assert state["sm_clock_mhz"] == 1755


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_without_nvml_the_name_is_torchs_and_there_is_a_reason(function: str) -> None:
    facts = probe(FakeNvml(**{function: refuse()})).facts()
    assert facts == {"name": "H100 by torch", "reason": "NVML: Not Supported"}


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
def test_this_process_is_none_of_the_others(pids: list[int], reserved_bytes: int, others: int) -> None:
    nvml = FakeNvml(nvmlDeviceGetComputeRunningProcesses=processes(*pids))
    assert probe(nvml, held_bytes=reserved_bytes).state()["other_processes"] == others


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_answers() -> None:
    facts, state = GpuProbe("cuda").facts(), GpuProbe("cuda").state()
    assert facts["name"] and facts["uuid"] and facts["driver"]
    assert 0 < state["sm_clock_mhz"] <= facts["max_sm_clock_mhz"]
