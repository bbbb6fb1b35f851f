"""The wrapper of NVML: units, what throttles, and that NVML is given back."""

from __future__ import annotations

import pynvml
import pytest

from specbench_s2d.measure.nvml import NvmlError, answers, opened
from tests.measure.nvml import FakeNvml, instant, refuse

THROTTLES = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "power limit",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "heat (driver)",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "heat (hardware)",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
}


@pytest.mark.parametrize(("bit", "reason"), THROTTLES.items())
def test_each_throttling_bit_has_its_reason(bit: int, reason: str) -> None:
    assert FakeNvml(throttled=bit).open().gpu("GPU-a").throttle_reasons() == [reason]


def test_clocks_that_idle_or_that_a_person_set_are_not_held_down() -> None:
    own = pynvml.nvmlClocksThrottleReasonGpuIdle | pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting
    assert FakeNvml(throttled=own).open().gpu("GPU-a").throttle_reasons() == []
    both = own | pynvml.nvmlClocksThrottleReasonHwSlowdown | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    assert FakeNvml(throttled=both).open().gpu("GPU-a").throttle_reasons() == ["hardware slowdown", "heat (hardware)"]


def test_power_and_energy_are_in_watts_and_joules() -> None:
    gpu = FakeNvml(lambda uuid: 250.5, lambda uuid: 12_345).open().gpu("GPU-a")
    assert (gpu.power_w(), gpu.power_now_w(), gpu.energy_j()) == (250.5, 250.5, 12.345)


@pytest.mark.parametrize(
    "answer",
    [
        lambda uuid, fields: [instant(0, pynvml.NVML_ERROR_NOT_SUPPORTED)],
        refuse(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND),
    ],
    ids=["no such field", "no such function"],
)
def test_without_the_power_of_this_moment_the_mean_is_given(answer: object) -> None:
    nvml = FakeNvml(lambda uuid: 320.0, nvmlDeviceGetFieldValues=answer).open()
    assert nvml.gpu("GPU-a").power_now_w() == 320


def test_a_refusal_is_the_drivers_reason() -> None:
    gpu = FakeNvml(nvmlDeviceGetEccMode=refuse()).open().gpu("GPU-a")
    with pytest.raises(NvmlError, match=r"^Not Supported$"):
        gpu.ecc()
    assert answers({"name": gpu.name, "ecc": gpu.ecc}) == {
        "name": "NVIDIA H100", "ecc": None, "ecc_reason": "Not Supported"
    }  # fmt: skip


def test_nvml_is_given_back_whatever_happens() -> None:
    shut: list[bool] = []
    nvml = FakeNvml(nvmlShutdown=lambda: shut.append(True))
    with pytest.raises(InterruptedError), opened(nvml.open):
        raise InterruptedError
    assert shut == [True]


def test_a_lost_driver_is_closed_without_complaint() -> None:
    FakeNvml(nvmlShutdown=refuse(pynvml.NVML_ERROR_GPU_IS_LOST)).open().close()
