"""Which meter a run gets, and what is said where it gets none."""

from __future__ import annotations

import pytest

from specbench_s2d.errors import UserError
from specbench_s2d.measure.energy.choose import OFF, MeterChoice, choose_meter, gpu_meter
from specbench_s2d.measure.energy.meter import EnergyMeter, MeterError
from tests.measure.energy.replay import Recording, ReplayMeter, VirtualClock
from tests.measure.nvml import FakeCuda, FakeNvml
from tests.refusals import refused

METER = ReplayMeter(Recording([0, 1], [0, 0], [0, 0]), VirtualClock())


def broken(device: str) -> EnergyMeter:
    raise MeterError("energy_uj: no permission to read it")


def other(device: str) -> EnergyMeter:
    raise AssertionError(f"not the meter of {device}")


@pytest.mark.parametrize("kind", ["auto", "nvml"])
def test_a_gpu_is_metered_by_nvml(kind: str) -> None:
    asked: list[str] = []

    def nvml(device: str) -> EnergyMeter:
        asked.append(device)
        return METER

    for device in ("cuda:1", "auto"):
        assert choose_meter(kind, device, {"nvml": nvml, "rapl": other}) == MeterChoice(METER)  # type: ignore[arg-type]
    assert asked == ["cuda:1", "auto"]


def test_a_target_over_all_gpus_is_metered_on_all_of_them() -> None:
    meter = gpu_meter("auto", lambda device: [f"{device}:0", f"{device}:1"], FakeCuda, FakeNvml().open)
    assert meter.covers == ("GPU-of-auto:0", "GPU-of-auto:1")


@pytest.mark.parametrize("kind", ["auto", "rapl"])
def test_a_cpu_is_metered_by_rapl(kind: str) -> None:
    assert choose_meter(kind, "cpu", {"nvml": other, "rapl": lambda device: METER}).meter is METER  # type: ignore[arg-type]


def test_off_opens_nothing_and_says_how_to_turn_it_on() -> None:
    assert choose_meter("off", "cpu", {"nvml": other, "rapl": other}) == MeterChoice(None, OFF)
    assert "--energy auto" in OFF


def test_auto_goes_on_without_a_meter_and_says_why() -> None:
    choice = choose_meter("auto", "cpu", {"rapl": broken})
    assert choice.facts() == {"meter": None, "reason": "no meter: energy_uj: no permission to read it"}


def test_a_meter_asked_for_by_name_that_cannot_be_read_is_refused() -> None:
    with refused(UserError, "--energy rapl", "no permission", "auto"):
        choose_meter("rapl", "cpu", {"rapl": broken})


@pytest.mark.parametrize(("kind", "device", "fitting"), [("nvml", "cpu", "rapl"), ("rapl", "cuda", "nvml")])
def test_a_meter_of_other_devices_is_refused(kind: str, device: str, fitting: str) -> None:
    with refused(UserError, f"--energy {kind}", f"the run is on {device}", fitting):
        choose_meter(kind, device, {"nvml": other, "rapl": other})  # type: ignore[arg-type]
