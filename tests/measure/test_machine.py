"""The host's facts, and how busy others keep it: from made-up clocks where the real ones would not hold still."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from specbench_s2d.measure.machine import (
    CpuReadings,
    CpuWatch,
    LoadWatch,
    clocks,
    cpu_facts,
    governor,
    python_facts,
    sanitizers,
)


def test_threads_and_cores_are_this_processs() -> None:
    facts = cpu_facts([3, 5], lambda: 1.5)
    assert (facts["usable_cores"], facts["quota_cores"]) == (2, 1.5)
    assert "quota_cores_reason" not in facts
    assert "no cgroup" in cpu_facts([0], lambda: None)["quota_cores_reason"]
    assert (facts["threads"], facts["interop_threads"]) == (torch.get_num_threads(), torch.get_num_interop_threads())


def test_the_governor_is_that_of_the_cores_asked_for(tmp_path: Path) -> None:
    for core, name in enumerate(["performance", "powersave", "schedutil"]):
        (tmp_path / f"cpu{core}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{core}" / "cpufreq" / "scaling_governor").write_text(name + "\n")
    assert governor([0], tmp_path) == {"governor": "performance"}
    assert governor([0, 1], tmp_path) == {"governor": "performance, powersave"}
    hidden = governor([7], tmp_path)
    assert hidden["governor"] is None and hidden["governor_reason"]


def test_a_tracer_is_seen() -> None:
    before = sys.gettrace(), sys.getprofile()
    try:
        sys.settrace(None)
        sys.setprofile(None)
        assert python_facts()["traced"] is False
        sys.setprofile(lambda *event: None)
        assert python_facts()["traced"] is True
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])


def test_sanitizers_are_seen_in_the_build_and_before_the_libraries() -> None:
    assert sanitizers("'--with-address-sanitizer' '--with-pydebug'", "") == ["address"]
    assert sanitizers("", "libtsan.so.2 other.so") == ["thread"]
    assert sanitizers("'--enable-shared'", "libjemalloc.so") == []


def cpu_times(user: float, steal: float) -> SimpleNamespace:
    return SimpleNamespace(user=user, nice=0.25, system=0.25, idle=100.0, irq=0.0, softirq=0.5, steal=steal)


def test_others_load_leaves_out_this_process_and_cores_it_may_not_use() -> None:
    """Two seconds on cores 0 and 1 of three: 3 s of work, of which 0.5 s this process's; 1 s stolen on core 1."""
    before = [cpu_times(10, 0), cpu_times(20, 5), cpu_times(0, 0)]
    after = [cpu_times(12, 0), cpu_times(21, 6), cpu_times(90, 90)]
    readings = CpuReadings(
        iter([before, after]).__next__, frequencies((2000, 0)), iter([1.0, 1.5]).__next__, iter([100.0, 102.0]).__next__
    )
    state = CpuWatch([0, 1], readings).state()
    assert (state["other_load_cores"], state["stolen_cores"]) == ((3 - 0.5) / 2, 0.5)
    assert (state["usable_cores"], state["clock_mhz"]) == (2, 2000)


def test_a_load_that_the_system_hides_is_none_with_a_reason() -> None:
    state = CpuWatch(readings=CpuReadings(times=failing(PermissionError("/proc/stat")))).state()
    assert state["other_load_cores"] is state["stolen_cores"] is None
    assert state["other_load_cores_reason"] and state["stolen_cores_reason"]


def failing(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def frequencies(*pairs: tuple[float, float]) -> Callable[[], list[SimpleNamespace]]:
    return lambda: [SimpleNamespace(current=current, max=most) for current, most in pairs]


def test_the_clock_is_that_of_the_fastest_usable_core() -> None:
    three = frequencies((800, 3000), (2900, 3000), (3500, 4000))
    assert clocks([0, 1], three) == {"clock_mhz": 2900, "max_clock_mhz": 3000}


def test_a_clock_that_the_system_does_not_show_is_none_with_a_reason() -> None:
    assert clocks([4], frequencies((2900, 0.0))) == {
        "clock_mhz": 2900,
        "max_clock_mhz": None,
        "max_clock_mhz_reason": "the system shows no clock",
    }
    assert clocks([0], frequencies())["clock_mhz"] is None
    assert clocks([0], failing(NotImplementedError("no clock here")))["clock_mhz_reason"] == "no clock here"


class Cores:
    """Two cores whose times and whose process's advance by what each lap says."""

    def __init__(self) -> None:
        self.busy_s = self.own_s = self.now_s = 0.0

    def advance(self, seconds: float, own: float, other: float) -> None:
        self.now_s, self.own_s = self.now_s + seconds, self.own_s + own
        self.busy_s += own + other

    @property
    def readings(self) -> CpuReadings:
        times = SimpleNamespace(user=0.0, nice=0.0, system=0.0, steal=0.0)
        one = lambda: [SimpleNamespace(user=self.busy_s, nice=0.0, system=0.0, steal=0.0), times]  # noqa: E731
        return CpuReadings(one, list, lambda: self.own_s, lambda: self.now_s)


def test_a_burst_amid_a_quiet_minute_is_seen() -> None:
    """Five seconds of both cores in a hundred: an average of 0.1 cores, no tenth of them."""
    cores = Cores()
    watch = LoadWatch([0, 1], cores.readings)
    for second in range(100):
        cores.advance(1.0, own=1.5, other=2.0 if 40 <= second < 45 else 0.0)
        watch.lap()
    facts = watch.facts()
    assert facts["other_load_cores"] == pytest.approx(0.1) and facts["most_other_load_cores"] == pytest.approx(2.0)
    assert (facts["disturbed_share"], facts["watched_s"]) == (0.05, 100.0)


def test_laps_of_less_than_a_second_are_put_together() -> None:
    cores = Cores()
    watch = LoadWatch([0, 1], cores.readings)
    for other in (0.0, 0.5, 0.5, 0.0):
        cores.advance(0.5, own=0.5, other=other)
        watch.lap()
    assert watch.facts()["most_other_load_cores"] == pytest.approx(0.5) and watch.facts()["disturbed_share"] == 0.0


def test_what_the_system_hides_of_the_load_is_none() -> None:
    facts = LoadWatch([0], CpuReadings(times=failing(PermissionError("/proc/stat")))).facts()
    assert facts["other_load_cores"] is facts["disturbed_share"] is facts["most_other_load_cores"] is None
    assert facts["other_load_cores_reason"]
