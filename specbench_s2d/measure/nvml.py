"""NVML, NVIDIA's management library, through pynvml, which no other module imports: GPUs by UUID, values by unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar

import pynvml

T = TypeVar("T")
ClockDomain = Literal["SM", "MEM"]
"""The clock of the streaming multiprocessors, or of the memory."""
# The driver's reasons for low clocks that are throttling; that a GPU is idle, or that a person set its clocks, is not.
_THROTTLES = {
    "nvmlClocksThrottleReasonSwPowerCap": "power limit",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "heat (driver)",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "heat (hardware)",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
}

# What a slice of a GPU (MIG) answers for itself.
_OF_A_SLICE = frozenset({
    "nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetComputeRunningProcesses",
})  # fmt: skip


class NvmlError(Exception):
    """NVML has no driver, does not know the GPU, or the GPU does not answer; the message is the driver's reason."""


class Nvml:
    """NVML, opened until `close`; other users of it in this process are not affected.

    `library`: pynvml, or what stands in for it. Every call raises `NvmlError` where the driver refuses.
    """

    def __init__(self, library: Any = pynvml) -> None:
        self.library = library
        self.ask(library.nvmlInit)

    def close(self) -> None:
        """Close NVML; that fails only where the driver is lost, and then there is nothing to close."""
        with suppress(self.library.NVMLError):
            self.library.nvmlShutdown()

    def gpu(self, uuid: str) -> NvmlGpu:
        """The GPU, or the slice of one (`MIG-…`), of this UUID."""
        handle = board = self.ask(self.library.nvmlDeviceGetHandleByUUID, uuid)
        if uuid.startswith("MIG-"):
            board = self.ask(self.library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle)
        return NvmlGpu(self, handle, board)

    def driver(self) -> str:
        """The driver's version."""
        return str(self.ask(self.library.nvmlSystemGetDriverVersion))

    def ask(self, read: Callable[..., T], *arguments: Any) -> T:
        """The result of one of the library's functions."""
        try:
            return read(*arguments)
        except self.library.NVMLError as error:
            raise NvmlError(str(error)) from error


@contextmanager
def opened(open_nvml: Callable[[], Nvml] = Nvml) -> Iterator[Nvml]:
    """NVML for the length of a block."""
    nvml = open_nvml()
    try:
        yield nvml
    finally:
        nvml.close()


class NvmlGpu:
    """One GPU, or a slice of one, whose limits, clocks, heat, power and errors are its board's. Each method asks the
    driver now; virtual devices refuse some of them."""

    def __init__(self, nvml: Nvml, handle: Any, board: Any) -> None:
        self._nvml, self._handle, self._board = nvml, handle, board

    def name(self) -> str:
        return str(self._ask("nvmlDeviceGetName"))

    def uuid(self) -> str:
        return str(self._ask("nvmlDeviceGetUUID"))

    def memory_bytes(self) -> int:
        return int(self._ask("nvmlDeviceGetMemoryInfo").total)

    def power_limit_w(self) -> float:
        """The limit that a person set."""
        return float(self._ask("nvmlDeviceGetPowerManagementLimit")) / 1000

    def default_power_limit_w(self) -> float:
        return float(self._ask("nvmlDeviceGetPowerManagementDefaultLimit")) / 1000

    def max_power_limit_w(self) -> float:
        return float(self._ask("nvmlDeviceGetPowerManagementLimitConstraints")[1]) / 1000

    def enforced_power_limit_w(self) -> float:
        """The least of the limits that hold now, set by a person or by the driver."""
        return float(self._ask("nvmlDeviceGetEnforcedPowerLimit")) / 1000

    def max_clock_mhz(self, domain: ClockDomain) -> int:
        return int(self._ask("nvmlDeviceGetMaxClockInfo", self._clock(domain)))

    def clock_mhz(self, domain: ClockDomain) -> int:
        return int(self._ask("nvmlDeviceGetClockInfo", self._clock(domain)))

    def ecc(self) -> bool:
        """Whether error correction of memory (ECC) is on now, not after the next start."""
        return bool(self._ask("nvmlDeviceGetEccMode")[0])

    def persistence_mode(self) -> bool:
        return bool(self._ask("nvmlDeviceGetPersistenceMode"))

    def mig(self) -> bool:
        """Whether the GPU is split into parts (MIG, multi-instance GPU) now, not after the next start."""
        return bool(self._ask("nvmlDeviceGetMigMode")[0])

    def utilization_percent(self) -> int:
        return int(self._ask("nvmlDeviceGetUtilizationRates").gpu)

    def temperature_c(self) -> int:
        return int(self._ask("nvmlDeviceGetTemperature", self._nvml.library.NVML_TEMPERATURE_GPU))

    def power_w(self) -> float:
        """The board's power; on newer boards the mean of the last second (NVML's reference says so)."""
        return float(self._ask("nvmlDeviceGetPowerUsage")) / 1000

    def power_now_w(self) -> float:
        """The board's power at this moment where the driver gives it, else `power_w`."""
        library = self._nvml.library
        with suppress(NvmlError):  # an older driver
            (value,) = self._ask("nvmlDeviceGetFieldValues", [library.NVML_FI_DEV_POWER_INSTANT])
            if value.nvmlReturn == library.NVML_SUCCESS:
                return float(value.value.uiVal) / 1000
        return self.power_w()

    def energy_j(self) -> float:
        """Joules counted since the driver was loaded."""
        return float(self._ask("nvmlDeviceGetTotalEnergyConsumption")) / 1000

    def throttle_reasons(self) -> list[str]:
        """What holds the clocks down."""
        bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return [reason for name, reason in _THROTTLES.items() if bits & getattr(self._nvml.library, name)]

    def throttled_s(self, policy: Literal["POWER", "THERMAL"]) -> float:
        """Seconds since the driver was loaded in which the power limit, or heat, held the clocks down."""
        which = getattr(self._nvml.library, f"NVML_PERF_POLICY_{policy}")
        return float(self._ask("nvmlDeviceGetViolationStatus", which).violationTime) / 1e9

    def process_ids(self) -> list[int]:
        """The processes that compute on the GPU, by the host's numbers."""
        return [process.pid for process in self._ask("nvmlDeviceGetComputeRunningProcesses")]

    def _clock(self, domain: ClockDomain) -> int:
        return int(getattr(self._nvml.library, f"NVML_CLOCK_{domain}"))

    def _ask(self, function: str, *arguments: Any) -> Any:
        asked = self._handle if function in _OF_A_SLICE else self._board
        return self._nvml.ask(getattr(self._nvml.library, function), asked, *arguments)


def answers(readings: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """The result of each of `readings`; None for one that the driver refuses, with the reason under `<name>_reason`."""
    facts: dict[str, Any] = {}
    for name, read in readings.items():
        try:
            facts[name] = read()
        except NvmlError as error:
            facts[name], facts[f"{name}_reason"] = None, str(error)
    return facts
