"""NVML as an H100 answers it, for tests without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from specbench_s2d.measure import gpu as module

POWER_NS, THERMAL_NS = 2_500_000_000, 0


def refuse(*arguments: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def processes(*pids: int) -> Callable[[str], list[SimpleNamespace]]:
    return lambda handle: [SimpleNamespace(pid=pid) for pid in pids]


def replay_nvml(monkeypatch: pytest.MonkeyPatch, **changes: Callable[..., Any]) -> list[str]:
    """Replace NVML's functions by an idle H100's answers, `changes` apart; returns the UUIDs that are asked for."""
    asked: list[str] = []

    def by_uuid(uuid: str) -> str:
        asked.append(uuid)
        return "handle"

    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetName": lambda handle: "NVIDIA H100",
        "nvmlDeviceGetUUID": lambda handle: asked[-1],
        "nvmlSystemGetDriverVersion": lambda: "550.1",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=80 * 2**30),
        "nvmlDeviceGetPowerManagementLimit": lambda handle: 650_000,  # milliwatts
        "nvmlDeviceGetPowerManagementDefaultLimit": lambda handle: 700_000,
        "nvmlDeviceGetPowerManagementLimitConstraints": lambda handle: [200_000, 750_000],
        "nvmlDeviceGetPowerUsage": lambda handle: 112_500,
        "nvmlDeviceGetClockInfo": lambda handle, kind: {pynvml.NVML_CLOCK_SM: 1755, pynvml.NVML_CLOCK_MEM: 2619}[kind],
        "nvmlDeviceGetMaxClockInfo": lambda handle, kind: {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[
            kind
        ],
        "nvmlDeviceGetTemperature": lambda handle, kind: 41,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=3),
        "nvmlDeviceGetEccMode": lambda handle: [1, 0],  # now, after the next start
        "nvmlDeviceGetPersistenceMode": lambda handle: 1,
        "nvmlDeviceGetMigMode": lambda handle: [0, 1],
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: pynvml.nvmlClocksThrottleReasonSwPowerCap,
        "nvmlDeviceGetViolationStatus": lambda handle, policy: SimpleNamespace(
            violationTime={pynvml.NVML_PERF_POLICY_POWER: POWER_NS, pynvml.NVML_PERF_POLICY_THERMAL: THERMAL_NS}[policy]
        ),
        "nvmlDeviceGetComputeRunningProcesses": processes(),
    }
    for name, answer in {**answers, **changes}.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234-ab"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100 by torch")
    monkeypatch.setattr(module, "_wake", lambda device: None)
    return asked
