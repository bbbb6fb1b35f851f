"""Which meter a run gets, and what is said where it gets none."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbench_s2d.config import RunSpec
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.measure.energy.choose import OFF, MeterChoice, choose_meter, gpu_meter
from specbench_s2d.measure.energy.meter import EnergyMeter, MeterError
from tests.measure.energy.replay import Recording, ReplayMeter, VirtualClock
from tests.measure.nvml import FakeCuda, FakeNvml
from tests.plugins import Plugins
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


def open_recording(device: str) -> EnergyMeter:
    """A meter of another package."""
    if device != "cpu":
        raise MeterError(f"nothing was recorded of {device}")
    return METER


def open_nothing(device: str) -> EnergyMeter:
    """A function that opens what is no meter."""
    return object()  # type: ignore[return-value]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    return Plugins(tmp_path / "site", monkeypatch)


def test_another_package_adds_a_meter(plugins: Plugins) -> None:
    plugins.register("meters", "recording", f"{__name__}:open_recording")
    assert RunSpec(energy="recording").resolved().energy == "recording"
    assert choose_meter("recording", "cpu") == MeterChoice(METER)
    with refused(UserError, "--energy recording: nothing was recorded of cuda", "Give auto to run on without, or off"):
        choose_meter("recording", "cuda")


def test_a_meter_that_lacks_what_a_meter_has_is_refused(plugins: Plugins) -> None:
    plugins.register("meters", "nothing", f"{__name__}:open_nothing")
    with refused(
        UserError, "--energy nothing: what 'nothing' opens is no meter: object has no name, covers, power_limit_w"
    ):
        choose_meter("nothing", "cpu")


def test_a_meter_that_is_not_known_or_has_two_owners_is_refused_before_anything_is_loaded(plugins: Plugins) -> None:
    plugins.register("meters", "rapl", f"{__name__}:open_recording")
    plugins.register("meters", "gone", "no_such_module:open")
    with refused(
        UnknownNameError, "unknown meter 'rapll'. Did you mean 'rapl'?", "auto, gone, nvml, off, rapl", "--energy"
    ):
        RunSpec(energy="rapll").resolved()
    with refused(UserError, "meter 'rapl': it is built in, and plugins 1 registers that name too"):
        RunSpec(energy="rapl").resolved()
    with refused(UserError, "meter 'gone' is registered by plugins 1", "cannot be imported"):
        RunSpec(energy="gone").resolved()
