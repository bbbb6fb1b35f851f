"""Processor packages, by files like the kernel's: which zones count, how a counter wraps, what cannot be told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from specbench_s2d.measure.energy.block import idle_power, measure_block
from specbench_s2d.measure.energy.meter import MeterError
from specbench_s2d.measure.energy.rapl import MOST_WATTS, RaplMeter
from tests.measure.energy.replay import VirtualClock

RANGE_UJ = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = RANGE_UJ) -> Path:
    (root / folder).mkdir(parents=True)
    (root / folder / "name").write_text(name + "\n")
    (root / folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (root / folder / "energy_uj").write_text(f"{energy_uj}\n")
    return root / folder / "energy_uj"


def test_packages_are_summed_and_what_overlaps_with_them_is_not(tmp_path: Path) -> None:
    first, second = (zone(tmp_path, f"intel-rapl:{n}", f"package-{n}", 1_000_000) for n in (0, 1))
    parts = [
        zone(tmp_path, "intel-rapl:0:0", "core", 5),
        zone(tmp_path, "intel-rapl:2", "psys", 5),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 5),
    ]
    meter = RaplMeter(tmp_path)
    assert meter.covers == ("package-0", "package-1")
    meter.start()
    first.write_text("4000000\n")
    second.write_text("6000000\n")
    for part in parts:
        part.write_text("999000000\n")
    reading = meter.stop()
    assert reading.counter_j == pytest.approx(3 + 5)
    assert reading.samples == () and reading.trace_reason and "no sensor" in reading.trace_reason


def test_amd_packages_are_found_by_either_name(tmp_path: Path) -> None:
    zone(tmp_path, "amd-rapl:0", "package-0", 0)
    assert RaplMeter(tmp_path).covers == ("package-0",)


def test_a_counter_that_wraps_once_is_put_right(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 2_000_000)
    meter = RaplMeter(tmp_path)
    meter.start()
    counter.write_text("3000000\n")
    assert meter.stop().counter_j == pytest.approx(2 + 3)


def test_a_counter_read_often_enough_may_wrap_many_times(tmp_path: Path) -> None:
    """The sampler's readings, not the block's ends, are what a wrap must lie between."""
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0, range_uj=10_000_000)
    clock = VirtualClock()
    meter = RaplMeter(tmp_path, clock=clock, every_s=60)
    meter.start()
    used_uj = 0
    for _ in range(20):
        clock.sleep(0.009)
        used_uj += 7_000_000
        counter.write_text(f"{used_uj % 10_000_000}\n")
        meter.sample()
    assert meter.stop().counter_j == pytest.approx(20 * 7)


def test_a_gap_in_which_it_could_wrap_twice_is_null(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    clock = VirtualClock()
    meter = RaplMeter(tmp_path, clock=clock, every_s=60)
    longest_s = RANGE_UJ / 1e6 / MOST_WATTS

    def work() -> int:
        clock.sleep(longest_s * 1.01)
        counter.write_text("5000000\n")
        return 10

    block = measure_block(meter, work, lambda: None)
    assert block.energy_j is None and block.reason and "may wrap more than once" in block.reason

    def shorter() -> int:
        clock.sleep(longest_s * 0.99)
        counter.write_text("9000000\n")
        return 10

    assert measure_block(meter, shorter, lambda: None).energy_j == pytest.approx(4), "the next block starts anew"


def test_a_counter_that_was_reset_is_no_wrap_around(tmp_path: Path) -> None:
    """A wrap is put right; from the middle of its range a counter cannot have come back to 5 J by itself."""
    counter = zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ // 2)
    clock = VirtualClock()
    meter = RaplMeter(tmp_path, clock=clock, every_s=60)

    def work() -> int:
        clock.sleep(3)
        counter.write_text("5000000\n")
        with pytest.raises(MeterError):
            meter.sample()  # as the sampling thread does
        clock.sleep(150)  # by now a package could have counted as much
        return 10

    block = measure_block(meter, work, lambda: None)
    meter.close()
    moved = "package-0: the counter went from 131,071.664 to 5.000 J in 3.00 s"
    said = f"{moved}, further than a package draws: it was reset"
    assert (block.energy_j, block.energy_net_j, block.reason) == (None, None, said)


def test_a_counter_that_stands_still_is_null(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 7)
    clock = VirtualClock()

    def work() -> int:
        clock.sleep(6)
        return 10

    meter = RaplMeter(tmp_path, clock=clock)
    block = measure_block(meter, work, lambda: None, idle_power_w=1.0)
    assert idle_power(meter, seconds=0.0, settle_s=0.0).watts is None
    meter.close()
    assert block.energy_j is None and block.reason == "the energy counter of package-0 did not move in 6.0 s"


def test_no_permission_is_said_with_what_to_do(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    counter.chmod(0)
    if os.access(counter, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(MeterError, match="energy_uj: no permission to read it; as root, chmod a\\+r"):
        RaplMeter(tmp_path)


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("nonsense", "'nonsense', not a count")])
def test_a_counter_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    counter.unlink()
    if content:
        counter.write_text(content)
    with pytest.raises(MeterError, match=said):
        RaplMeter(tmp_path)


def test_a_counter_that_goes_in_mid_block_is_null(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    clock = VirtualClock()

    def work() -> int:
        clock.sleep(5)
        counter.unlink()
        return 10

    block = measure_block(RaplMeter(tmp_path, clock=clock), work, lambda: None)
    assert block.energy_j is None and block.reason and "No such file" in block.reason


def test_a_machine_without_the_files_says_so(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="no processor package's energy"):
        RaplMeter(tmp_path)
