"""NVIDIA GPUs by a fake driver: what is counted, what is sampled, and what makes a null with its reason."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pynvml
import pytest
import torch

from specbench_s2d.measure.energy import trace
from specbench_s2d.measure.energy.block import Metered, measure_block
from specbench_s2d.measure.energy.choose import choose_meter
from specbench_s2d.measure.energy.meter import MeterError
from specbench_s2d.measure.energy.nvml import NvmlMeter
from specbench_s2d.measure.energy.reading import read_during
from tests.measure.nvml import FakeNvml, instant, refuse


def steady(mj_per_s: float) -> Callable[[str], int]:
    """A counter that runs with real time."""
    return lambda uuid: int(time.perf_counter() * mj_per_s)


def block_of(nvml: FakeNvml, uuids: tuple[str, ...] = ("GPU-a",), work_s: float = 0.1) -> Metered:
    def work() -> int:
        time.sleep(work_s)
        return 10

    meter = NvmlMeter(uuids, nvml.open, every_s=0.01)
    return measure_block(meter, work, lambda: None, idle_power_w=50.0, min_s=0.05)


def test_a_block_has_the_counters_joules_and_the_sampled_ones_beside_them() -> None:
    block = block_of(FakeNvml(lambda uuid: 200.0, steady(200_000)))
    assert block.energy_j == pytest.approx(200 * block.block_s, rel=0.05)
    assert block.trace_j == pytest.approx(200 * block.block_s, rel=0.05)
    assert block.energy_j and block.trace_j and block.disagreement == pytest.approx(block.trace_j / block.energy_j - 1)
    assert block.energy_net_j == pytest.approx(block.energy_j - 50 * block.block_s)
    assert block.energy_j_per_token == block.energy_j / 10
    assert (block.meter, block.covers, block.power_limit_w) == ("nvml", ["GPU-a"], 650.0)
    assert (block.temperature_max_c, block.throttled) == (41, [])
    assert block.clocks_mhz == {"sm": (1755, 1755), "memory": (2619, 2619)}
    assert block.reason is None and block.trace_reason is None


def test_only_the_gpus_that_the_run_used_are_summed() -> None:
    rates = {"GPU-a": 100_000, "GPU-b": 300_000, "GPU-idle": 70_000}
    nvml = FakeNvml(lambda uuid: rates[uuid] / 1000, lambda uuid: int(time.perf_counter() * rates[uuid]))
    block = block_of(nvml, ("GPU-a", "GPU-b"))
    assert block.energy_j == pytest.approx(400 * block.block_s, rel=0.05)
    assert block.trace_j == pytest.approx(400 * block.block_s, rel=0.05)
    assert block.power_limit_w == 1300


def test_throttling_and_moving_clocks_are_kept_of_any_sample() -> None:
    clocks = iter([1980, 1200])
    bits = iter([pynvml.nvmlClocksThrottleReasonGpuIdle, pynvml.nvmlClocksThrottleReasonSwPowerCap])
    nvml = FakeNvml(
        energy_mj=steady(1000),
        nvmlDeviceGetClockInfo=lambda handle, kind: next(clocks, 1500) if kind == pynvml.NVML_CLOCK_SM else 2619,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: next(bits, 0),
    )
    block = block_of(nvml)
    assert block.clocks_mhz["sm"] == (1200, 1980)
    assert block.throttled == ["power limit"]


def test_a_counter_that_goes_backwards_is_null() -> None:
    readings = iter([9_000, 9_000, 4_000])  # opening the meter, start, stop
    block = block_of(FakeNvml(energy_mj=lambda uuid: next(readings)))
    assert block.energy_j is None and block.energy_j_per_token is None and block.energy_net_j is None
    assert block.reason and "GPU-a went backwards, from 9.000 to 4.000 J" in block.reason


def test_one_gpu_of_two_going_backwards_is_not_hidden_by_the_other() -> None:
    readings = {"GPU-a": iter([9_000, 9_000, 4_000]), "GPU-b": iter([0, 0, 90_000])}
    block = block_of(FakeNvml(energy_mj=lambda uuid: next(readings[uuid])), ("GPU-a", "GPU-b"))
    assert block.energy_j is None and block.reason and "GPU-a went backwards" in block.reason


@pytest.mark.parametrize(
    ("watts", "said"),
    [(0.0, "read 0 W"), (-5.0, "read -5 W"), (math.nan, "read nan W"), (math.inf, "read inf W")],
)
def test_a_broken_sensor_leaves_the_counter_alone_and_no_other_gpu_hides_it(watts: float, said: str) -> None:
    nvml = FakeNvml(lambda uuid: 300.0, steady(200_000))
    meter = NvmlMeter(("GPU-a", "GPU-b"), nvml.open, every_s=0.01)
    broken = meter._gpus[1]
    broken.power_now_w = lambda: watts  # type: ignore[method-assign]
    _, reading = read_during(meter, lambda: time.sleep(0.05))
    meter.close()
    assert reading.counter_j and reading.trace_reason == f"the power sensor of GPU-b {said}"


@pytest.mark.parametrize(
    ("after_mj", "said"),
    [
        (9_000, "did not move in 0.0 s"),
        (4_000, "went backwards, from 9.000 to 4.000 J"),
        (math.nan, "went from 9.0 to nan J"),
        (math.inf, "went from 9.0 to inf J"),
    ],
)
def test_a_broken_counter_is_not_hidden_by_another_gpus(after_mj: float, said: str) -> None:
    readings = {"GPU-a": iter([9_000, 9_000, after_mj]), "GPU-b": iter([0, 0, 90_000])}
    meter = NvmlMeter(("GPU-a", "GPU-b"), FakeNvml(energy_mj=lambda uuid: next(readings[uuid])).open)  # type: ignore[arg-type, return-value]
    _, reading = read_during(meter, lambda: None)
    meter.close()
    assert reading.counter_j is None and reading.reason and f"the energy counter of GPU-a {said}" in reading.reason


def test_a_sampler_that_lags_gives_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "LONGEST_GAP_S", 0.03)
    meter = NvmlMeter(["GPU-a"], FakeNvml(energy_mj=steady(200_000)).open, every_s=0.06)
    _, reading = read_during(meter, lambda: time.sleep(0.2))
    _, short = read_during(meter, lambda: time.sleep(0.001))
    meter.close()
    assert reading.counter_j and reading.trace_reason == "no sample of power for 0.1 s"
    assert short.trace_reason == "no sample of power in 0.00 s"


def test_whatever_a_library_raises_in_the_thread_becomes_the_reason() -> None:
    def fails(*_: Any) -> Any:
        raise OSError("libnvidia-ml.so: cannot open")

    nvml = FakeNvml(energy_mj=steady(200_000), nvmlDeviceGetFieldValues=fails)
    block = block_of(nvml)
    assert block.energy_j and block.trace_reason == "OSError: libnvidia-ml.so: cannot open"


def test_a_driver_lost_in_a_block_is_null_and_raises_nothing() -> None:
    lost = pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
    alive = [True]

    def work() -> int:
        alive[0] = False
        time.sleep(0.06)
        return 10

    def or_lost(value: Any) -> Callable[..., Any]:
        def read(*arguments: Any) -> Any:
            if alive[0]:
                return value
            raise lost

        return read

    nvml = FakeNvml(
        energy_mj=or_lost(5_000),
        nvmlDeviceGetFieldValues=or_lost([instant(200)]),
        nvmlDeviceGetPowerUsage=or_lost(200_000),
    )
    meter = NvmlMeter(["GPU-a"], nvml.open, every_s=0.01)
    block = measure_block(meter, work, lambda: None, min_s=0.05)
    assert (block.energy_j, block.trace_j, block.disagreement) == (None, None, None)
    assert block.reason == "NVML, energy counter: GPU is lost"
    assert block.trace_reason == "NVML, power: GPU is lost"
    after = measure_block(meter, work, lambda: None, min_s=0.05)
    assert after.reason == block.reason and after.energy_j is None


def test_power_without_a_sensor_leaves_the_counter_alone() -> None:
    no_power = refuse()
    nvml = FakeNvml(energy_mj=steady(200_000), nvmlDeviceGetFieldValues=no_power, nvmlDeviceGetPowerUsage=no_power)
    block = block_of(nvml)
    assert block.energy_j and block.trace_j is None and block.disagreement is None
    assert block.reason is None and block.trace_reason == "NVML, power: Not Supported"


def test_what_explains_a_figure_may_be_missing() -> None:
    silent = refuse()
    nvml = FakeNvml(
        energy_mj=steady(200_000),
        nvmlDeviceGetTemperature=silent,
        nvmlDeviceGetClockInfo=silent,
        nvmlDeviceGetCurrentClocksThrottleReasons=silent,
        nvmlDeviceGetEnforcedPowerLimit=silent,
    )
    block = block_of(nvml)
    assert block.energy_j and block.trace_j
    assert (block.temperature_max_c, block.clocks_mhz, block.throttled, block.power_limit_w) == (None, {}, [], None)


@pytest.mark.parametrize(
    ("uuid", "changes", "said"),
    [
        ("MIG-1", {}, "MIG is on"),
        ("GPU-a", {"nvmlDeviceGetMigMode": lambda handle: [1, 1]}, "MIG is on"),
        ("GPU-a", {"energy_mj": refuse(pynvml.NVML_ERROR_NO_PERMISSION)}, "energy counter: Insufficient Permissions"),
        ("GPU-a", {"energy_mj": refuse()}, "energy counter: Not Supported"),
        ("GPU-a", {"nvmlInit": refuse(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)}, "NVML: Driver Not Loaded"),
        ("GPU-a", {"nvmlDeviceGetHandleByUUID": refuse(pynvml.NVML_ERROR_NOT_FOUND)}, "GPU-a: Not Found"),
    ],
)
def test_a_gpu_that_cannot_be_metered_says_why(uuid: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(MeterError, match=said):
        NvmlMeter([uuid], FakeNvml(**changes).open)


@pytest.mark.parametrize("mode", [lambda uuid: [0, 1], refuse()], ids=["off until the next start", "not known"])
def test_a_gpu_out_of_mig_mode_is_metered(mode: Callable[[str], Any]) -> None:
    meter = NvmlMeter(["GPU-a"], FakeNvml(energy_mj=lambda uuid: 3000, nvmlDeviceGetMigMode=mode).open)
    assert meter.counters_j() == (3.0,)


def test_a_meter_refused_lets_go_of_the_driver() -> None:
    shut: list[bool] = []
    with pytest.raises(MeterError):
        NvmlMeter(["MIG-1"], FakeNvml(nvmlShutdown=lambda: shut.append(True)).open)
    assert shut == [True]


def test_one_thread_samples_every_window_and_ends_with_the_meter() -> None:
    before = threading.active_count()
    meter = NvmlMeter(["GPU-a"], FakeNvml(energy_mj=steady(1000)).open, every_s=0.01)
    assert threading.active_count() == before
    for _ in range(3):
        meter.start()
        time.sleep(0.05)
        assert meter.stop().samples and threading.active_count() == before + 1
    meter.close()
    assert threading.active_count() == before


def test_work_that_fails_closes_its_window() -> None:
    def fails() -> int:
        raise RuntimeError("out of memory")

    meter = NvmlMeter(["GPU-a"], FakeNvml(energy_mj=steady(1000)).open, every_s=0.01)
    with pytest.raises(RuntimeError, match="out of memory"):
        measure_block(meter, fails, lambda: None)
    time.sleep(0.03)  # one sample may be on its way
    asked: list[None] = []
    meter.sample = lambda: asked.append(None)  # type: ignore[assignment, method-assign, return-value]
    time.sleep(0.05)
    meter.close()
    assert not asked, "no window is open"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_counter_and_trace_agree_on_a_real_gpu() -> None:
    meter = choose_meter("auto", "cuda").meter
    if meter is None:
        pytest.skip(str(choose_meter("auto", "cuda").reason))
    matrix = torch.randn(4096, 4096, device="cuda")

    def work() -> int:
        for _ in range(50):
            torch.mm(matrix, matrix)
        return 1

    measure_block(meter, work, torch.cuda.synchronize, min_s=1.0)  # clocks and power rise first
    block = measure_block(meter, work, torch.cuda.synchronize)
    assert block.reason is None and block.energy_j and block.disagreement is not None
    assert abs(block.disagreement) < 0.1
    assert 20 < block.energy_j / block.block_s < 1500
