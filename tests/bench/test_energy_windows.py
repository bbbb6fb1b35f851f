"""Energy of timed windows, end to end on an embedded model: what records get, and what faulty meters leave of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.bench.session import Session
from specbench_s2d.measure.energy.meter import EnergyMeter, MeterError, Reading, Sample
from specbench_s2d.runs.folder import ENERGY, read_manifest
from specbench_s2d.runs.record import ENERGY_FIELDS, Record
from tests.bench.sessions import with_methods
from tests.bench.test_energy_pass import BUSY_W, IDLE_W, a_meter, plan_of
from tests.measure.energy.replay import Recording, ReplayMeter, VirtualClock


def plan(**changes: Any) -> Plan:
    return plan_of(**{"suite": ["qa"], "energy_blocks": False, **changes})


def test_each_record_has_the_joules_of_its_own_window(tmp_path: Path) -> None:
    records = execute(plan(), tmp_path / "run", meter=a_meter()).records
    assert len(records) == 2
    for record in records:
        assert record.energy_s and record.energy_s >= 2  # the meter's clock goes on by two seconds at each look
        assert record.energy_j == pytest.approx(BUSY_W * record.energy_s)
        assert record.energy_net_j == pytest.approx((BUSY_W - IDLE_W) * record.energy_s)
        assert record.energy_trace_j == pytest.approx(BUSY_W * record.energy_s)
        assert not set(ENERGY_FIELDS) & record.reasons.keys()
    samples = read_manifest(tmp_path / "run")["targets"]["demo-s"]["power_samples"]
    assert samples["windows"] == 2 and samples["samples"] > 20
    assert not (tmp_path / "run" / ENERGY).exists(), "nothing is decoded a second time"


def test_the_meter_is_read_outside_the_timed_window(tmp_path: Path) -> None:
    log: list[str] = []

    class Logged(ReplayMeter):
        def start(self) -> None:
            log.append("start")
            super().start()

        def stop(self) -> Reading:
            log.append("stop")
            return super().stop()

    def generate(session: Session, *arguments: Any) -> Any:
        log.append("decode")
        done = Session._generate(session, *arguments)
        log.append("decoded")
        return done

    meter = Logged(Recording([0, 1e5], [100.0] * 2, [0, 1e7]), VirtualClock(tick_s=2.0))
    execute(plan(), tmp_path / "run", meter=meter, open_session=with_methods(_generate=generate))
    assert log[-8:] == ["start", "decode", "decoded", "stop"] * 2
    assert log[:2] == ["start", "stop"], "the idle power, before anything is loaded"


def test_blocks_asked_for_later_take_the_place_of_windows(tmp_path: Path) -> None:
    execute(plan(), tmp_path / "run", meter=a_meter())
    later = execute(plan(energy_blocks=True), tmp_path / "run", meter=a_meter()).records
    assert all(r.energy_s is None and r.energy_j for r in later) and (tmp_path / "run" / ENERGY).exists()


def test_a_block_without_energy_leaves_that_of_the_windows(tmp_path: Path) -> None:
    windows = execute(plan(), tmp_path / "run", meter=a_meter()).records
    later = execute(plan(energy_blocks=True), tmp_path / "run", meter=a_meter(lost_at_s=1.0)).records
    assert sorted(map(str, later)) == sorted(map(str, windows))


class Faulty(ReplayMeter):
    """A recording of 40 W and then 100 W with one thing wrong: what `start`, `stop`, `sleep` or `close` do instead,
    from the call numbered `since` on (idle power is the first reading)."""

    def __init__(self, since: int = 1, **wrong: Callable[[Any], Any]) -> None:
        idle_j = 9 * IDLE_W
        joules = [0, idle_j, idle_j, idle_j + BUSY_W * (1e5 - 9)]
        super().__init__(Recording([0, 9, 9, 1e5], [IDLE_W] * 2 + [BUSY_W] * 2, joules), VirtualClock(tick_s=2.0))
        self._wrong, self._since, self._calls = wrong, since, 0
        if "sleep" in wrong:
            self.sleep = lambda seconds: wrong["sleep"](seconds)

    def start(self) -> None:
        self._calls += 1
        if "start" in self._wrong and self._calls > self._since:
            self._wrong["start"](None)
        super().start()

    def stop(self) -> Reading:
        reading = super().stop()
        wrong = "stop" in self._wrong and self._calls > self._since
        changed: Reading = self._wrong["stop"](reading) if wrong else reading
        return changed

    def close(self) -> None:
        if "close" in self._wrong:
            self._wrong["close"](None)


def breaks(error: Exception) -> Callable[[Any], Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def counts(joules: float) -> Callable[[Reading], Reading]:
    return lambda reading: Reading(reading.seconds, joules, reading.samples)


def senses(watts: float) -> Callable[[Reading], Reading]:
    def sensed(reading: Reading) -> Reading:
        return Reading(reading.seconds, reading.counter_j, tuple(Sample(s.at_s, watts) for s in reading.samples))

    return sensed


LOST = breaks(RuntimeError("the driver is gone\nand more"))
COUNTER: dict[str, tuple[dict[str, Callable[[Any], Any]], str]] = {
    "raises at a window's start": ({"start": LOST}, "RuntimeError: the driver is gone"),
    "raises at a window's end": ({"stop": LOST}, "RuntimeError: the driver is gone"),
    "says why": ({"stop": breaks(MeterError("no permission"))}, "no permission"),
    "stands still": ({"stop": counts(0.0)}, "the energy counter did not move in "),
    "fell": ({"stop": counts(-12.0)}, "the energy counter fell by 12.000 J: it was reset"),
    "no number": ({"stop": counts(math.nan)}, "the energy counter gave nan J"),
    "infinite": ({"stop": counts(math.inf)}, "the energy counter gave inf J"),
}


@pytest.mark.parametrize(("wrong", "reason"), COUNTER.values(), ids=COUNTER.keys())
@pytest.mark.parametrize("blocks", [False, True], ids=["windows", "blocks"])
def test_a_faulty_counter_is_null_with_its_reason_and_loses_no_record(
    tmp_path: Path, wrong: dict[str, Callable[[Any], Any]], reason: str, blocks: bool
) -> None:
    records = execute(plan(energy_blocks=blocks), tmp_path / "run", meter=Faulty(**wrong)).records
    assert len(records) == 2 and {r.status for r in records} == {"ok"}
    for record in records:
        assert (record.energy_j, record.energy_net_j) == (None, None)
        assert record.reasons["energy_j"].startswith(reason) and record.reasons["energy_net_j"].startswith(reason)


SENSOR = {
    "stuck at 0 W": (0.0, "the power sensor read 0 W"),
    "no number": (math.nan, "the power sensor read nan W"),
    "infinite": (math.inf, "the power sensor read inf W"),
    "negative": (-3.0, "the power sensor read -3 W"),
}


@pytest.mark.parametrize(("watts", "reason"), SENSOR.values(), ids=SENSOR.keys())
@pytest.mark.parametrize("blocks", [False, True], ids=["windows", "blocks"])
def test_a_faulty_sensor_costs_the_trace_alone(tmp_path: Path, watts: float, reason: str, blocks: bool) -> None:
    meter = Faulty(stop=senses(watts))
    records = execute(plan(energy_blocks=blocks), tmp_path / "run", meter=meter).records
    for record in records:
        assert record.energy_j and record.energy_net_j and record.energy_trace_j is None
        assert record.reasons["energy_trace_j"].startswith(reason)


IDLE: dict[str, tuple[EnergyMeter, str]] = {
    "raises at its start": (Faulty(0, start=LOST), "RuntimeError: the driver is gone"),
    "raises while it waits": (Faulty(sleep=LOST), "RuntimeError: the driver is gone"),
    "stands still": (Faulty(0, stop=counts(0.0)), "the energy counter did not move in "),
    "fell": (Faulty(0, stop=counts(-1.0)), "the energy counter fell by 1.000 J"),
    "no number": (Faulty(0, stop=counts(math.nan)), "the energy counter gave nan J"),
}


@pytest.mark.parametrize(("meter", "reason"), IDLE.values(), ids=IDLE.keys())
def test_a_meter_that_is_faulty_while_idle_says_so_in_the_manifest(
    tmp_path: Path, meter: EnergyMeter, reason: str
) -> None:
    records = execute(plan(), tmp_path / "run", meter=meter).records
    assert len(records) == 2 and all(r.energy_net_j is None for r in records)
    manifest = read_manifest(tmp_path / "run")
    assert manifest["idle_power_w"] is None and manifest["reasons"]["idle_power_w"].startswith(reason)
    if all(r.energy_j for r in records):
        assert {r.reasons["energy_net_j"] for r in records} == {"the idle power is not known"}


@pytest.mark.parametrize("blocks", [False, True], ids=["windows", "blocks"])
def test_an_idle_power_above_the_works_is_null_and_never_negative(tmp_path: Path, blocks: bool) -> None:
    records = execute(plan(energy_blocks=blocks), tmp_path / "run", meter=a_meter(idle_w=150.0)).records
    said = (
        "the idle power, 150.0 W, is not below the 100.0 W drawn at work: the device was not idle when it was "
        "measured, or the meter errs"
    )
    assert [(r.energy_net_j, r.reasons["energy_net_j"]) for r in records] == [(None, said)] * 2
    assert all(r.energy_j for r in records)


def test_a_meter_that_raises_on_close_loses_nothing(tmp_path: Path) -> None:
    records = execute(plan(), tmp_path / "run", meter=Faulty(close=LOST)).records
    assert all(r.energy_j for r in records)
    energy = read_manifest(tmp_path / "run")["energy"]
    assert energy == {
        "meter": "replay",
        "reason": "the meter could not be closed: RuntimeError: the driver is gone",
    }


def test_a_cell_that_fails_has_no_energy_and_its_meter_is_stopped(tmp_path: Path) -> None:
    def generate(session: Session, label: str, *arguments: Any) -> Any:
        if label == "ar" and len(arguments) == 3:  # its timed window
            raise RuntimeError("out of memory")
        return Session._generate(session, label, *arguments)

    opened = with_methods(_generate=generate)
    by_label: dict[str, Record] = {
        r.label: r for r in execute(plan(), tmp_path / "run", meter=a_meter(), open_session=opened).records
    }
    assert by_label["ar"].status == "failed" and by_label["ar"].reasons["energy_j"] == "the cell was not decoded"
    assert by_label["sd:gamma=3"].energy_j == pytest.approx(BUSY_W * (by_label["sd:gamma=3"].energy_s or 0))


def test_clocks_held_down_in_the_windows_are_named(tmp_path: Path) -> None:
    def throttled(reading: Reading) -> Reading:
        held = frozenset({"power limit"})
        samples = tuple(Sample(s.at_s, s.power_w, {"sm": (1200.0,)}, 61.0, held) for s in reading.samples)
        return Reading(reading.seconds, reading.counter_j, samples)

    said: list[str | None] = []
    execute(plan(), tmp_path / "run", lambda event: said.append(event.text), meter=Faulty(stop=throttled))
    assert "GPU clocks held down while timed: power limit: let it cool, or raise the power limit." in said
    manifest = read_manifest(tmp_path / "run")
    samples = manifest["targets"]["demo-s"]["power_samples"]
    assert (samples["clocks_mhz"], samples["temperature_max_c"]) == ({"sm": [1200.0, 1200.0]}, 61.0)
    assert [c["what"] for c in manifest["conditions"] if c["about"] == "GPU"] == [
        "clocks held down while timed: power limit"
    ]
