"""NVIDIA GPUs: the driver's energy counter, and the board's instantaneous power beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from specbench_s2d.measure.energy.meter import MeterError, Sample
from specbench_s2d.measure.energy.trace import SampledMeter

T = TypeVar("T")
# What of the driver's reasons for its clocks is throttling: an idle GPU, or clocks that a person set, are not.
_THROTTLES = {
    "nvmlClocksEventReasonSwPowerCap": "power limit",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwThermalSlowdown": "heat",
    "nvmlClocksEventReasonHwThermalSlowdown": "heat (hardware)",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
}
_CLOCKS = {"sm": "NVML_CLOCK_SM", "memory": "NVML_CLOCK_MEM"}


class NvmlMeter(SampledMeter):
    """The GPUs of these UUIDs, summed. Power is the board's, in watts; the counter is in millijoules. Not measured yet.

    `nvml`: the module to read by, pynvml where none is given. Raises `MeterError` where the counter cannot be read, and
    for a GPU in MIG mode, whose counter is of the whole board and not of a slice.
    """

    def __init__(self, uuids: Sequence[str], nvml: Any = None, **sampling: Any) -> None:
        if nvml is None:
            import pynvml

            nvml = pynvml
        self._nvml = nvml
        self._ask("NVML", nvml.nvmlInit)
        try:
            self._handles = [self._open(uuid) for uuid in uuids]
            super().__init__("nvml", tuple(uuids), self._limit_w(), **sampling)
            self.counters_j()
        except MeterError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the driver; other users of NVML in this process keep it."""
        with suppress(self._nvml.NVMLError):  # a driver that is lost has nothing left to let go of
            self._nvml.nvmlShutdown()

    def counters_j(self) -> tuple[float, ...]:
        """Joules since the driver was loaded, by GPU."""
        read = self._nvml.nvmlDeviceGetTotalEnergyConsumption
        return tuple(self._ask("energy counter", read, handle) / 1000 for handle in self._handles)

    def sample(self) -> Sample:
        """Board power, clocks, temperature and what throttles, now."""
        at_s = self.clock()
        power_w = sum(self._power_w(handle) for handle in self._handles)
        temperatures = self._known(self._nvml.nvmlDeviceGetTemperature, self._nvml.NVML_TEMPERATURE_GPU)
        clocks = {
            name: self._known(self._nvml.nvmlDeviceGetClockInfo, getattr(self._nvml, kind))
            for name, kind in _CLOCKS.items()
        }
        bits = self._known(self._nvml.nvmlDeviceGetCurrentClocksEventReasons)
        throttled = (text for name, text in _THROTTLES.items() if any(b & getattr(self._nvml, name) for b in bits))
        return Sample(at_s, power_w, clocks, max(temperatures, default=None), frozenset(throttled))

    def _open(self, uuid: str) -> Any:
        handle = self._ask(f"GPU {uuid}", self._nvml.nvmlDeviceGetHandleByUUID, uuid)
        if uuid.startswith("MIG-") or self._in_mig_mode(handle):
            raise MeterError(f"{uuid}: MIG is on, and the energy counter is of the whole GPU, not of a slice")
        return handle

    def _in_mig_mode(self, handle: Any) -> bool:
        try:
            current, _ = self._nvml.nvmlDeviceGetMigMode(handle)
        except self._nvml.NVMLError:  # a GPU that knows no MIG
            return False
        return bool(current)

    def _power_w(self, handle: Any) -> float:
        """The power of this moment where the driver gives it; else its power reading, on newer boards the mean of the
        last second (NVML's reference says so)."""
        nvml = self._nvml
        try:
            (value,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
            if value.nvmlReturn == nvml.NVML_SUCCESS:
                return float(value.value.uiVal) / 1000
        except nvml.NVMLError:
            pass  # an older driver: ask the older way, which raises where it cannot either
        return float(self._ask("power", nvml.nvmlDeviceGetPowerUsage, handle)) / 1000

    def _limit_w(self) -> float | None:
        limits = self._known(self._nvml.nvmlDeviceGetEnforcedPowerLimit)
        return sum(limits) / 1000 if len(limits) == len(self._handles) else None

    def _known(self, read: Callable[..., int], *arguments: Any) -> tuple[int, ...]:
        """What the GPUs answer; those that do not support the question are left out."""
        answers = []
        for handle in self._handles:
            try:
                answers.append(read(handle, *arguments))
            except self._nvml.NVMLError:  # state that explains a figure, never a figure
                continue
        return tuple(answers)

    def _ask(self, what: str, read: Callable[..., T], *arguments: Any) -> T:
        try:
            return read(*arguments)
        except self._nvml.NVMLError as error:
            raise MeterError(f"NVML, {what}: {error}") from error
