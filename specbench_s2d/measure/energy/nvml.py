"""NVIDIA GPUs: the driver's energy counter, and the board's instantaneous power beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from specbench_s2d.measure.energy.meter import MeterError, Sample
from specbench_s2d.measure.energy.trace import SampledMeter
from specbench_s2d.measure.nvml import Nvml, NvmlError, NvmlGpu

T = TypeVar("T")


class NvmlMeter(SampledMeter):
    """The GPUs of these UUIDs, summed, by NVML (NVIDIA's management library).

    Raises `MeterError` where the counter cannot be read, and for a GPU in MIG mode (multi-instance GPU), whose counter
    is of the whole board and not of a part. On an H200 it and the integrated power differed by at most 6 %.
    """

    def __init__(self, uuids: Sequence[str], open_nvml: Callable[[], Nvml] = Nvml, **sampling: Any) -> None:
        try:
            self._nvml = open_nvml()
        except NvmlError as error:
            raise MeterError(f"NVML: {error}") from error
        try:
            self._gpus = [self._find(uuid) for uuid in uuids]
            super().__init__("nvml", tuple(uuids), self._limit_w(), **sampling)
            self.counters_j()
        except Exception:
            self._nvml.close()
            raise

    def close(self) -> None:
        """End the sampling thread, then close NVML; other users of it in this process are not affected."""
        super().close()
        self._nvml.close()

    def counters_j(self) -> tuple[float, ...]:
        """Joules since the driver was loaded, by GPU."""
        return tuple(_ask("energy counter", gpu.energy_j) for gpu in self._gpus)

    def sample(self) -> Sample:
        """Board power, clocks, temperature and what throttles, now."""
        at_s = self.clock()
        power_w = sum(_power_w(uuid, gpu) for uuid, gpu in zip(self.covers, self._gpus, strict=True))
        clocks = {
            "sm": self._known(lambda gpu: gpu.clock_mhz("SM")),
            "memory": self._known(lambda gpu: gpu.clock_mhz("MEM")),
        }
        temperature_c = max(self._known(NvmlGpu.temperature_c), default=None)
        throttled = frozenset().union(*self._known(NvmlGpu.throttle_reasons))
        return Sample(at_s, power_w, clocks, temperature_c, throttled)

    def _find(self, uuid: str) -> NvmlGpu:
        gpu = _ask(f"GPU {uuid}", lambda: self._nvml.gpu(uuid))
        in_mig_mode = uuid.startswith("MIG-")
        with suppress(NvmlError):  # a GPU that knows no MIG
            in_mig_mode = in_mig_mode or gpu.mig()
        if in_mig_mode:
            raise MeterError(f"{uuid}: MIG is on, and the energy counter is of the whole GPU, not of a slice")
        return gpu

    def _limit_w(self) -> float | None:
        limits = self._known(NvmlGpu.enforced_power_limit_w)
        return sum(limits) if len(limits) == len(self._gpus) else None

    def _known(self, read: Callable[[NvmlGpu], T]) -> tuple[T, ...]:
        """The answers of the GPUs that support the question: facts that explain a figure, and no figure itself."""
        known = []
        for gpu in self._gpus:
            with suppress(NvmlError):
                known.append(read(gpu))
        return tuple(known)


def _power_w(uuid: str, gpu: NvmlGpu) -> float:
    """Watts of one GPU, so that no other one hides a sensor that is broken."""
    power_w = _ask("power", gpu.power_now_w)
    if not 0 < power_w < math.inf:
        raise MeterError(f"the power sensor of {uuid} read {power_w:g} W")
    return power_w


def _ask(what: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except NvmlError as error:
        raise MeterError(f"NVML, {what}: {error}") from error
