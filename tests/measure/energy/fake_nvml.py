"""A stand-in for the module pynvml: GPUs whose answers a test sets, and the errors of the real one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml


class FakeNvml(SimpleNamespace):
    """`power_w` and `energy_mj` are asked by UUID at each reading; `changes` replaces single functions."""

    def __init__(
        self,
        power_w: Callable[[str], float] = lambda uuid: 200.0,
        energy_mj: Callable[[str], int] = lambda uuid: 0,
        **changes: Any,
    ) -> None:
        real = {name: value for name, value in vars(pynvml).items() if name.isupper() or "EventReason" in name}
        answers = {
            "NVMLError": pynvml.NVMLError,
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
            "nvmlDeviceGetMigMode": refuse(pynvml.NVML_ERROR_NOT_SUPPORTED),
            "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
            "nvmlDeviceGetTotalEnergyConsumption": energy_mj,
            "nvmlDeviceGetFieldValues": lambda handle, fields: [instant(power_w(handle))],
            "nvmlDeviceGetPowerUsage": lambda handle: round(power_w(handle) * 1000),
            "nvmlDeviceGetTemperature": lambda handle, kind: 41,
            "nvmlDeviceGetClockInfo": lambda handle, kind: {
                pynvml.NVML_CLOCK_SM: 1980,
                pynvml.NVML_CLOCK_MEM: 2619,
            }[kind],
            "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 0,
        }
        super().__init__(**{**real, **answers, **changes})


def instant(watts: float, status: int = pynvml.NVML_SUCCESS) -> SimpleNamespace:
    """A field's value as NVML wraps it, in milliwatts."""
    return SimpleNamespace(nvmlReturn=status, value=SimpleNamespace(uiVal=round(watts * 1000)))


def refuse(code: int) -> Callable[..., Any]:
    """A function of NVML that always fails with this error."""

    def fail(*arguments: Any) -> Any:
        raise pynvml.NVMLError(code)

    return fail
