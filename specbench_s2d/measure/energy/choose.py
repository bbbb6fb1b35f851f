"""Which energy meter a run gets: the one asked for, or the one of its device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from specbench_s2d import registry
from specbench_s2d.errors import UserError, is_stop
from specbench_s2d.measure.energy.meter import EnergyMeter, MeterError
from specbench_s2d.measure.energy.nvml import NvmlMeter
from specbench_s2d.measure.energy.rapl import RaplMeter
from specbench_s2d.measure.energy.reading import reason_of
from specbench_s2d.measure.gpu import CudaDevice, TorchCuda
from specbench_s2d.measure.nvml import Nvml
from specbench_s2d.models.devices import all_devices

OFF = "not metered: --energy off, the default for demo models on a CPU; --energy auto meters where the machine can"
Openers = Mapping[str, Callable[[str], EnergyMeter]]
"""A meter's name to the function that opens it on a device."""
_PARTS = ("name", "covers", "power_limit_w", "clock", "sleep", "start", "stop", "close")


def gpu_meter(
    device: str,
    list_devices: Callable[[str], Sequence[str]] = all_devices,
    find: Callable[[str], CudaDevice] = TorchCuda,
    open_nvml: Callable[[], Nvml] = Nvml,
) -> NvmlMeter:
    """A meter of the device's GPU, or of `auto` every visible one; raises `MeterError`."""
    return NvmlMeter([find(one).uuid for one in list_devices(device)], open_nvml)


def cpu_meter(device: str) -> RaplMeter:
    """A meter of all processor packages; raises `MeterError`."""
    return RaplMeter()


OPENERS: Openers = {"nvml": gpu_meter, "rapl": cpu_meter}
"""The meters that belong to one kind of device; one that a package registers decides itself what it meters."""


@dataclass(frozen=True)
class MeterChoice:
    """A meter, or None with the reason."""

    meter: EnergyMeter | None
    reason: str | None = None

    def facts(self) -> dict[str, str | None]:
        """For the manifest: the meter's name, or why there is none."""
        return {"meter": self.meter.name if self.meter else None, "reason": self.reason}

    def close(self) -> str | None:
        """Close the meter, if there is one; what it raises, as a reason."""
        try:
            if self.meter:
                self.meter.close()
        except BaseException as error:
            if is_stop(error):
                raise
            return f"the meter could not be closed: {reason_of(error)}"
        return None


def choose_meter(kind: str, device: str, openers: Openers = OPENERS) -> MeterChoice:
    """`auto`: NVML on a GPU, RAPL on a CPU, or no meter with the reason where these cannot be read; `off`: no meter;
    else the meter of that name.

    Raises `UserError` for a meter asked for by name that is not known, does not meter `device`, or cannot be read.
    """
    if kind == "off":
        return MeterChoice(None, OFF)
    fitting = "rapl" if device == "cpu" else "nvml"
    if kind in OPENERS and kind != fitting:
        raise UserError(
            f"--energy {kind}: the run is on {device}, which is metered by {fitting}; give {fitting} or auto."
        )
    name = fitting if kind == "auto" else kind
    open_meter = openers[name] if name in openers else registry.meters.load(name)
    try:
        return MeterChoice(_checked(open_meter(device), name))
    except BaseException as error:  # whatever a driver's library raises
        if is_stop(error):
            raise
        if kind == "auto":
            return MeterChoice(None, f"no meter: {reason_of(error)}")
        raise UserError(f"--energy {kind}: {reason_of(error)}. Give auto to run on without, or off.") from error


def _checked(meter: EnergyMeter, name: str) -> EnergyMeter:
    """The meter; raises `MeterError` where it has not what a meter has."""
    missing = [part for part in _PARTS if not hasattr(meter, part)]
    if missing:
        raise MeterError(
            f"what {name!r} opens is no meter: {type(meter).__name__} has no {', '.join(missing)} (docs/plugins.md)"
        )
    return meter
