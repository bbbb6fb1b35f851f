"""Which meter a run gets: the one asked for, or the one that its device has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from specbench_s2d.errors import UserError
from specbench_s2d.measure.energy.meter import EnergyMeter, MeterError
from specbench_s2d.measure.energy.nvml import NvmlMeter
from specbench_s2d.measure.energy.rapl import RaplMeter
from specbench_s2d.measure.gpu import cuda_uuid
from specbench_s2d.models.devices import all_devices

Kind = Literal["auto", "nvml", "rapl", "off"]
OFF = "not metered: --energy off, the default for demo models; --energy auto meters where the machine can"
Openers = Mapping[str, Callable[[str], EnergyMeter]]
OPENERS: Openers = {
    "nvml": lambda device: NvmlMeter([cuda_uuid(one) for one in all_devices(device)]),
    "rapl": lambda device: RaplMeter(),
}


@dataclass(frozen=True)
class MeterChoice:
    """A meter, or None with the reason."""

    meter: EnergyMeter | None
    reason: str | None = None

    def facts(self) -> dict[str, str | None]:
        """For the manifest: the meter's name, or why there is none."""
        return {"meter": self.meter.name if self.meter else None, "reason": self.reason}


def choose_meter(kind: Kind, device: str, openers: Openers = OPENERS) -> MeterChoice:
    """`auto`: NVML on a GPU, RAPL on a CPU, none with the reason where they cannot be read; `off`: none.

    Raises `UserError` for a meter asked for by name that does not meter `device`, or cannot be read.
    """
    if kind == "off":
        return MeterChoice(None, OFF)
    fitting = "rapl" if device == "cpu" else "nvml"
    if kind not in ("auto", fitting):
        raise UserError(
            f"--energy {kind}: the run is on {device}, which is metered by {fitting}; give {fitting} or auto."
        )
    try:
        return MeterChoice(openers[fitting](device))
    except MeterError as error:
        if kind == "auto":
            return MeterChoice(None, f"no meter: {error}")
        raise UserError(f"--energy {kind}: {error}. Give auto to run on without, or off.") from error
