"""The run's GPU, by torch and NVML (NVIDIA's management library): what it is, and what it does now."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from specbench_s2d.measure.nvml import Nvml, NvmlError, NvmlGpu, answers, opened

WAKE_S = 0.1
_WAKE_BYTES = 2**26


class CudaDevice(Protocol):
    """What torch says of a GPU."""

    @property
    def uuid(self) -> str: ...

    @property
    def name(self) -> str: ...

    def reserved_bytes(self) -> int: ...

    def wake(self) -> None: ...


class TorchCuda:
    """A CUDA device of torch, as `cuda` or `cuda:1`."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    @property
    def uuid(self) -> str:
        """Its UUID as NVML spells it: indices differ between the two wherever devices are hidden."""
        bare = str(torch.cuda.get_device_properties(self._device).uuid)
        return full_uuid(bare, self.name, named_slices(os.environ))

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self._device)

    def reserved_bytes(self) -> int:
        """Bytes that this process holds there."""
        return torch.cuda.memory_reserved(self._device)

    def wake(self) -> None:
        """Stream memory for a tenth of a second: an idle GPU's clocks are not those it works at."""
        buffer = torch.ones(_WAKE_BYTES // 4, device=self._device)
        until = time.monotonic() + WAKE_S
        while time.monotonic() < until:
            for _ in range(100):
                buffer.mul_(1.0)
            torch.cuda.synchronize(self._device)


def named_slices(variables: Mapping[str, str]) -> list[str]:
    """The slices of GPUs (MIG, multi-instance GPU) that CUDA_VISIBLE_DEVICES names: `MIG-UUID`, or `MIG-GPU-UUID/gi/ci`
    before driver 470. CUDA shows a process the first of them alone."""
    entries = [entry.strip() for entry in variables.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return entries if all(entry.startswith("MIG-") for entry in entries) else []


def full_uuid(uuid: str, name: str, slices: Sequence[str] = ()) -> str:
    """A device's UUID, which torch gives without its prefix, as NVML and CUDA_VISIBLE_DEVICES spell it.

    `name`: the device's, which tells a slice, as in `NVIDIA A100 MIG 1g.5gb`. `slices`: `named_slices`.
    """
    if slices and ("/" in slices[0] or len(slices[0]) >= len(uuid)):  # NVML knows no shortened ones
        return slices[0]
    if uuid.startswith(("GPU-", "MIG-")):
        return uuid
    return f"MIG-{uuid}" if slices or " MIG " in name else f"GPU-{uuid}"


class GpuProbe:
    """The run's GPU, found by its UUID. What cannot be read is None, with the reason beside it.

    `device`: the run's; for one without a GPU all that is read is why there is none.
    """

    def __init__(
        self,
        device: str,
        find: Callable[[str], CudaDevice] = TorchCuda,
        open_nvml: Callable[[], Nvml] = Nvml,
    ) -> None:
        self._device, self._open_nvml = device, open_nvml
        self._cuda = find(device) if device.startswith("cuda") else None

    def facts(self) -> dict[str, Any]:
        """Name, driver, limits, modes, and the load of the last second, so before this process works on the GPU."""
        return self._read(_fact_readings)

    def state(self) -> dict[str, Any]:
        """What changes during a run: clocks and temperature under a short load, throttling, other processes."""
        if self._cuda:
            self._cuda.wake()
        return self._read(self._state_readings)

    def _read(self, readings: Callable[[Nvml, NvmlGpu], Mapping[str, Callable[[], Any]]]) -> dict[str, Any]:
        """The answers to `readings`, or the GPU's name and UUID with the reason why NVML gives none."""
        if self._cuda is None:
            return {"name": None, "reason": f"the run used {self._device}"}
        try:
            with opened(self._open_nvml) as nvml:
                gpu = nvml.gpu(self._cuda.uuid)
                return {"name": self._cuda.name, **answers(readings(nvml, gpu))}
        except NvmlError as error:
            return {"name": self._cuda.name, "uuid": self._cuda.uuid, "reason": f"NVML: {error}"}

    def _state_readings(self, nvml: Nvml, gpu: NvmlGpu) -> dict[str, Callable[[], Any]]:
        return {
            "sm_clock_mhz": lambda: gpu.clock_mhz("SM"),
            "memory_clock_mhz": lambda: gpu.clock_mhz("MEM"),
            "temperature_c": gpu.temperature_c,
            "power_w": gpu.power_w,
            "throttle_reasons": gpu.throttle_reasons,
            "power_throttled_s": lambda: gpu.throttled_s("POWER"),
            "thermal_throttled_s": lambda: gpu.throttled_s("THERMAL"),
            "other_processes": lambda: self._others(gpu.process_ids()),
        }

    def _others(self, process_ids: list[int]) -> int:
        """How many of the GPU's processes are not this one.

        In a container NVML gives the host's process ids, among which this process cannot find its own: then one of them
        is its own, once it holds memory there.
        """
        assert self._cuda is not None
        others = [pid for pid in process_ids if pid != os.getpid()]
        unknown_self = len(others) == len(process_ids) and self._cuda.reserved_bytes() > 0
        return max(0, len(others) - unknown_self)


def _fact_readings(nvml: Nvml, gpu: NvmlGpu) -> dict[str, Callable[[], Any]]:
    return {
        "name": gpu.name,
        "uuid": gpu.uuid,
        "driver": nvml.driver,
        "memory_bytes": gpu.memory_bytes,
        "power_limit_w": gpu.power_limit_w,
        "default_power_limit_w": gpu.default_power_limit_w,
        "max_power_limit_w": gpu.max_power_limit_w,
        "max_sm_clock_mhz": lambda: gpu.max_clock_mhz("SM"),
        "max_memory_clock_mhz": lambda: gpu.max_clock_mhz("MEM"),
        "ecc": gpu.ecc,
        "persistence_mode": gpu.persistence_mode,
        "mig": gpu.mig,
        "utilization_percent": gpu.utilization_percent,
    }
