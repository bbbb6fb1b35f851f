"""A fake of the library that NVML is read by, and of torch's view of a GPU, for tests without one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml

from specbench_s2d.measure.nvml import Nvml

POWER_NS, THERMAL_NS = 2_500_000_000, 0
_CLOCKS_MHZ = {pynvml.NVML_CLOCK_SM: 1755, pynvml.NVML_CLOCK_MEM: 2619}
_MAX_CLOCKS_MHZ = {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}


class FakeNvml(SimpleNamespace):
    """pynvml's constants and errors, and functions that answer as an idle H100 does; a GPU's handle is its UUID, and
    that of a slice's board `board of UUID`.

    `power_w` and `energy_mj` are asked by UUID at each reading; `throttled`: bits of what holds the clocks down;
    `changes` replaces single functions. `asked`: the UUIDs of the GPUs that were looked for.
    """

    def __init__(
        self,
        power_w: Callable[[str], float] = lambda uuid: 112.5,
        energy_mj: Callable[[str], int] = lambda uuid: 0,
        throttled: int = 0,
        **changes: Any,
    ) -> None:
        self.asked: list[str] = []
        real = {name: value for name, value in vars(pynvml).items() if name.isupper() or "ThrottleReason" in name}
        answers = {
            "NVMLError": pynvml.NVMLError,
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetHandleByUUID": self._find,
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda uuid: f"board of {uuid}",
            "nvmlDeviceGetName": lambda uuid: "NVIDIA H100",
            "nvmlDeviceGetUUID": lambda uuid: uuid,
            "nvmlSystemGetDriverVersion": lambda: "550.1",
            "nvmlDeviceGetMemoryInfo": lambda uuid: SimpleNamespace(total=80 * 2**30),
            "nvmlDeviceGetPowerManagementLimit": lambda uuid: 650_000,  # milliwatts
            "nvmlDeviceGetEnforcedPowerLimit": lambda uuid: 650_000,
            "nvmlDeviceGetPowerManagementDefaultLimit": lambda uuid: 700_000,
            "nvmlDeviceGetPowerManagementLimitConstraints": lambda uuid: [200_000, 750_000],
            "nvmlDeviceGetFieldValues": lambda uuid, fields: [instant(power_w(uuid))],
            "nvmlDeviceGetPowerUsage": lambda uuid: round(power_w(uuid) * 1000),
            "nvmlDeviceGetTotalEnergyConsumption": energy_mj,
            "nvmlDeviceGetClockInfo": lambda uuid, kind: _CLOCKS_MHZ[kind],
            "nvmlDeviceGetMaxClockInfo": lambda uuid, kind: _MAX_CLOCKS_MHZ[kind],
            "nvmlDeviceGetTemperature": lambda uuid, kind: 41,
            "nvmlDeviceGetUtilizationRates": lambda uuid: SimpleNamespace(gpu=3),
            "nvmlDeviceGetEccMode": lambda uuid: [1, 0],  # now, after the next start
            "nvmlDeviceGetPersistenceMode": lambda uuid: 1,
            "nvmlDeviceGetMigMode": lambda uuid: [0, 1],
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda uuid: throttled,
            "nvmlDeviceGetViolationStatus": _violations,
            "nvmlDeviceGetComputeRunningProcesses": processes(),
        }
        super().__init__(**{**real, **answers, **changes})

    def open(self) -> Nvml:
        """The package's wrapper around this library."""
        return Nvml(self)

    def _find(self, uuid: str) -> str:
        self.asked.append(uuid)
        return uuid


class FakeCuda:
    """A GPU as torch sees it, which notes when it is woken."""

    name = "H100 by torch"

    def __init__(self, device: str, held_bytes: int = 0) -> None:
        self.uuid, self.woken = f"GPU-of-{device}", 0
        self._held_bytes = held_bytes

    def reserved_bytes(self) -> int:
        return self._held_bytes

    def wake(self) -> None:
        self.woken += 1


def refuse(code: int = pynvml.NVML_ERROR_NOT_SUPPORTED) -> Callable[..., Any]:
    """A function of NVML that always fails with this error."""

    def fail(*arguments: Any) -> Any:
        raise pynvml.NVMLError(code)

    return fail


def instant(watts: float, status: int = pynvml.NVML_SUCCESS) -> SimpleNamespace:
    """A field's value as NVML wraps it, in milliwatts."""
    return SimpleNamespace(nvmlReturn=status, value=SimpleNamespace(uiVal=round(watts * 1000)))


def processes(*pids: int) -> Callable[[str], list[SimpleNamespace]]:
    """The processes that compute on a GPU."""
    return lambda uuid: [SimpleNamespace(pid=pid) for pid in pids]


def _violations(uuid: str, policy: int) -> SimpleNamespace:
    seen_ns = {pynvml.NVML_PERF_POLICY_POWER: POWER_NS, pynvml.NVML_PERF_POLICY_THERMAL: THERMAL_NS}
    return SimpleNamespace(violationTime=seen_ns[policy])
