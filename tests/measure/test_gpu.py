"""A GPU's facts by NVML: found by its UUID, each in its unit, and why what is not known is not."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pynvml
import pytest
import torch

from specbench_s2d.measure.environment import device_id
from specbench_s2d.measure.gpu import GpuProbe, full_uuid, named_slices
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
    assert facts == {"name": "H100 by torch", "uuid": "GPU-of-cuda:0", "reason": "NVML: Not Supported"}
    assert device_id({"gpu": facts}) == "GPU-of-cuda:0", "no two GPUs of a host are taken for one"


BARE = "8f6b1c2e-0d3a-4c5b-9e7f-1a2b3c4d5e6f"
OLD = f"MIG-GPU-{BARE}/1/0"


@pytest.mark.parametrize(
    ("uuid", "name", "visible", "full"),
    [
        (BARE, "NVIDIA H100", "", f"GPU-{BARE}"),
        (BARE, "NVIDIA H100", "0,1", f"GPU-{BARE}"),
        (BARE, "NVIDIA H100", f"GPU-{BARE}", f"GPU-{BARE}"),
        (f"GPU-{BARE}", "NVIDIA H100", "", f"GPU-{BARE}"),
        (BARE, "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "", f"MIG-{BARE}"),
        (BARE, "NVIDIA A100-SXM4-40GB MIG 1g.5gb", f"MIG-{BARE}", f"MIG-{BARE}"),
        (BARE, "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "MIG-8f6b", f"MIG-{BARE}"),  # shortened, as CUDA allows
        (f"MIG-{BARE}", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "", f"MIG-{BARE}"),
        (BARE, "A100", f"{OLD}, MIG-GPU-{BARE}/2/0", OLD),  # drivers before 470
    ],
)
def test_a_uuid_is_as_nvml_spells_it(uuid: str, name: str, visible: str, full: str) -> None:
    assert full_uuid(uuid, name, named_slices({"CUDA_VISIBLE_DEVICES": visible})) == full


def test_a_process_without_the_variable_names_no_slices() -> None:
    assert named_slices({}) == named_slices({"CUDA_VISIBLE_DEVICES": "0,MIG-a"}) == []


def test_of_a_slice_the_memory_is_its_own_and_the_clocks_are_its_boards() -> None:
    slice_bytes = {f"MIG-{BARE}": 5 * 2**30}
    nvml = FakeNvml(
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=slice_bytes[handle]),
        nvmlDeviceGetMigMode=lambda handle: {f"board of MIG-{BARE}": [1, 1]}[handle],
        nvmlDeviceGetClockInfo=lambda handle, kind: {f"board of MIG-{BARE}": 1755}[handle],
    )
    cuda = FakeCuda("cuda:0")
    cuda.uuid = f"MIG-{BARE}"
    one = GpuProbe("cuda:0", lambda name: cuda, nvml.open)
    facts = one.facts()
    assert (facts["uuid"], facts["memory_bytes"], facts["mig"]) == (cuda.uuid, 5 * 2**30, True)
    assert one.state()["sm_clock_mhz"] == 1755


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
