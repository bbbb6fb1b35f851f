"""The run's GPU by NVML: what it is, and what it does now. What cannot be read is None, with the reason beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

_WAKE_S = 0.1
_WAKE_BYTES = 2**26


def cuda_uuid(device: str) -> str:
    """The UUID of a torch device as NVML spells it: indices differ between the two wherever devices are hidden."""
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def gpu_facts(device: str) -> dict[str, Any]:
    """The run's GPU, found by its UUID: name, driver, limits, modes and its load; or why there is none.

    The load is of the last second: ask before this process works on the GPU.
    """
    return _read(device, _fact_readings)


def gpu_state(device: str) -> dict[str, Any]:
    """What changes while a run goes on: clocks and temperature under a short load, throttling, other processes."""
    if device.startswith("cuda"):
        _wake(torch.device(device))
    return _read(device, lambda handle: _state_readings(handle, device))


def _read(device: str, readings: Callable[[Any], Mapping[str, Callable[[], Any]]]) -> dict[str, Any]:
    """The answers to `readings`, or the GPU's name with the reason why NVML gives none."""
    if not device.startswith("cuda"):
        return {"name": None, "reason": f"the run used {device}"}
    import pynvml

    name = torch.cuda.get_device_name(device)
    try:
        with _nvml():
            handle = pynvml.nvmlDeviceGetHandleByUUID(cuda_uuid(device))
            return {"name": name, **_answers(readings(handle))}
    except pynvml.NVMLError as error:  # no driver, or NVML does not know the device
        return {"name": name, "reason": f"NVML: {error}"}


@contextmanager
def _nvml() -> Iterator[None]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _answers(readings: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    import pynvml

    facts: dict[str, Any] = {}
    for name, read in readings.items():
        try:
            facts[name] = read()
        except pynvml.NVMLError as error:  # a virtual or MIG device may refuse any of them
            facts[name], facts[f"{name}_reason"] = None, str(error)
    return facts


def _fact_readings(handle: Any) -> dict[str, Callable[[], Any]]:
    import pynvml as nvml

    return {
        "name": lambda: nvml.nvmlDeviceGetName(handle),
        "uuid": lambda: nvml.nvmlDeviceGetUUID(handle),
        "driver": nvml.nvmlSystemGetDriverVersion,
        "memory_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total,
        "power_limit_w": lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000,
        "default_power_limit_w": lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1000,
        "max_power_limit_w": lambda: nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)[1] / 1000,
        "max_sm_clock_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
        "max_memory_clock_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "ecc": lambda: bool(nvml.nvmlDeviceGetEccMode(handle)[0]),
        "persistence_mode": lambda: bool(nvml.nvmlDeviceGetPersistenceMode(handle)),
        "mig": lambda: bool(nvml.nvmlDeviceGetMigMode(handle)[0]),
        "utilization_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    }


def _state_readings(handle: Any, device: str) -> dict[str, Callable[[], Any]]:
    import pynvml as nvml

    return {
        "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "throttle_reasons": lambda: throttle_names(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        # NVML counts nanoseconds since the driver was loaded.
        "power_throttled_s": lambda: _violation_s(handle, nvml.NVML_PERF_POLICY_POWER),
        "thermal_throttled_s": lambda: _violation_s(handle, nvml.NVML_PERF_POLICY_THERMAL),
        "other_processes": lambda: _others(nvml.nvmlDeviceGetComputeRunningProcesses(handle), device),
    }


def throttle_names(bits: int) -> list[str]:
    """What holds the clocks down, of NVML's bits; a clock that idles or that a person set is not held down."""
    import pynvml as nvml

    names = {
        "power cap": nvml.nvmlClocksThrottleReasonSwPowerCap,
        "hardware slow-down": nvml.nvmlClocksThrottleReasonHwSlowdown,
        "heat (driver)": nvml.nvmlClocksThrottleReasonSwThermalSlowdown,
        "heat (hardware)": nvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        "power brake": nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    }
    return [name for name, bit in names.items() if bits & bit]


def _violation_s(handle: Any, policy: int) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetViolationStatus(handle, policy).violationTime) / 1e9


def _others(processes: list[Any], device: str) -> int:
    """How many of the GPU's processes are not this one.

    In a container NVML gives the host's numbers, by which this process does not know itself: then one is it, once it
    has memory there.
    """
    others = [process for process in processes if process.pid != os.getpid()]
    unknown_self = len(others) == len(processes) and torch.cuda.memory_reserved(device) > 0
    return max(0, len(others) - unknown_self)


def _wake(device: torch.device) -> None:
    """Stream memory for a tenth of a second: an idle GPU's clocks say nothing of those it works at."""
    buffer = torch.ones(_WAKE_BYTES // 4, device=device)
    until = time.monotonic() + _WAKE_S
    while time.monotonic() < until:
        for _ in range(100):
            buffer.mul_(1.0)
        torch.cuda.synchronize(device)
