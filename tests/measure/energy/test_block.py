"""Blocks on a virtual clock: how long they are, and what a recorded trace of known joules makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from specbench_s2d.measure.energy.block import IDLE_MOST_S, IDLE_S, SETTLE_S, Metered, idle_power, measure_block
from specbench_s2d.measure.energy.meter import Reading, Sample
from specbench_s2d.measure.energy.trace import integrate_j
from tests.measure.energy.replay import Recording, ReplayMeter, VirtualClock

HIGH_W, LOW_W, PERIOD_S = 300.0, 100.0, 1.7


def square_wave(seconds: float, power_w: tuple[float, float] = (HIGH_W, LOW_W)) -> Recording:
    """Power high for the first half of each period and low for the second, its counter exact."""
    times, watts, joules = [0.0], [power_w[0]], [0.0]
    for edge in range(int(2 * seconds / PERIOD_S)):
        before, after = power_w[edge % 2], power_w[(edge + 1) % 2]
        times += [(edge + 1) * PERIOD_S / 2] * 2
        watts += [before, after]
        joules += [joules[-1] + before * PERIOD_S / 2] * 2
    return Recording(times, watts, joules)


def constant(watts: float, seconds: float = 1000.0) -> Recording:
    return Recording([0, seconds], [watts, watts], [0, watts * seconds])


def block_of(
    meter: ReplayMeter, round_s: float = 1.3, tokens: int = 20, idle_w: float | None = None, most_rounds: int = 2000
) -> Metered:
    def work() -> int:
        meter.sleep(round_s)
        return tokens

    return measure_block(meter, work, lambda: None, idle_w, most_rounds=most_rounds)


def test_a_square_wave_integrates_to_its_known_joules() -> None:
    block = block_of(ReplayMeter(square_wave(100), VirtualClock()), round_s=10 * PERIOD_S)
    known_j = 10 * PERIOD_S * (HIGH_W + LOW_W) / 2
    assert block.energy_j == pytest.approx(known_j)
    assert block.trace_j == pytest.approx(known_j, rel=0.01)
    assert block.disagreement is not None and abs(block.disagreement) < 0.01


def test_the_trapezoid_rule_on_three_samples() -> None:
    samples = [Sample(0, 100), Sample(2, 200), Sample(3, 0)]
    assert integrate_j(samples) == 2 * 150 + 1 * 100
    assert integrate_j(samples[:1]) is None


def test_work_is_repeated_until_the_block_is_five_seconds_long() -> None:
    block = block_of(ReplayMeter(constant(100), VirtualClock()), round_s=1.3)
    assert (block.rounds, block.new_tokens) == (4, 80)  # 3.9 s are too short
    assert block.block_s == pytest.approx(5.2)
    assert block.energy_j_per_token == pytest.approx(520 / 80)


def test_work_that_is_long_enough_runs_once() -> None:
    block = block_of(ReplayMeter(constant(100), VirtualClock()), round_s=60)
    assert (block.rounds, block.block_s) == (1, 60)


def test_work_that_never_gets_long_enough_is_null() -> None:
    meter = ReplayMeter(constant(100), VirtualClock())
    block = block_of(meter, round_s=0.001, most_rounds=7)
    assert (block.rounds, block.energy_j, block.energy_j_per_token) == (7, None, None)
    assert block.reason == "7 rounds took 0.01 s; a block is measured from 5 s on"


def test_the_idle_power_is_taken_off() -> None:
    meter = ReplayMeter(constant(100), VirtualClock())
    idle = idle_power(meter)
    assert idle.watts == pytest.approx(100) and idle.reason is None
    assert idle.facts() == {"settled": True, "spread": pytest.approx(0), "waited_s": SETTLE_S + IDLE_S}
    block = block_of(meter, round_s=5, tokens=10, idle_w=40.0)
    assert block.energy_net_j == pytest.approx(5 * (100 - 40))
    assert block.energy_net_j_per_token == pytest.approx(30)
    assert block_of(meter, idle_w=None).energy_net_j is None


def falling(to_w: float, seconds: float) -> Recording:
    """200 W when it begins, `to_w` from `seconds` on, a straight line between."""
    fallen_j = seconds * (200 + to_w) / 2
    return Recording([0, seconds, 1000], [200, to_w, to_w], [0, fallen_j, fallen_j + (1000 - seconds) * to_w])


def test_the_idle_power_is_read_once_it_has_settled() -> None:
    """As after a GPU's context is made: read at once it would be 150 W."""
    idle = idle_power(ReplayMeter(falling(60.0, 7.0), VirtualClock()))
    assert idle.watts == pytest.approx(60)
    assert idle.facts() == {"settled": True, "spread": pytest.approx(0), "waited_s": SETTLE_S + 3 * IDLE_S}


def test_an_idle_power_that_never_settles_is_read_all_the_same_and_said_to_move() -> None:
    idle = idle_power(ReplayMeter(square_wave(100), VirtualClock()))
    assert idle.watts and idle.facts()["settled"] is False and idle.facts()["spread"] > 0.05
    assert IDLE_MOST_S - IDLE_S < idle.waited_s <= IDLE_MOST_S


def test_a_meter_without_samples_of_power_is_read_once_and_says_so() -> None:
    class CountsOnly(ReplayMeter):
        def stop(self) -> Reading:
            return replace(super().stop(), samples=(), trace_reason="it has counters alone")

    idle = idle_power(CountsOnly(falling(60.0, 7.0), VirtualClock()))
    facts = {"settled": None, "spread": None, "waited_s": 5.0, "reason": "the meter samples no power"}
    assert idle.watts and idle.facts() == facts


def test_the_device_is_waited_for_at_both_ends() -> None:
    """Work that a device still has to do before the block is not in it; work that it was asked for is."""
    meter = ReplayMeter(constant(100), VirtualClock())
    waiting = [3.0]

    def synchronize() -> None:
        meter.sleep(sum(waiting))
        waiting.clear()

    def work() -> int:
        waiting.append(5.0)
        return 1

    block = measure_block(meter, work, synchronize)
    assert (block.rounds, block.block_s) == (1, 5.0) and block.energy_j == pytest.approx(500)


def test_a_driver_lost_in_mid_block_is_null_and_the_next_one_too() -> None:
    meter = ReplayMeter(constant(100), VirtualClock(), lost_at_s=8)
    first, second, third = (block_of(meter) for _ in range(3))
    assert first.energy_j == pytest.approx(520)
    for block in (second, third):
        assert (block.energy_j, block.trace_j, block.energy_net_j, block.energy_j_per_token) == (None,) * 4
        assert block.reason == "the recorded driver was lost at 8 s"
    idle = idle_power(meter)
    assert (idle.watts, idle.reason) == (None, "the recorded driver was lost at 8 s")
    assert idle.facts()["settled"] is None and idle.facts()["reason"] == idle.reason


def test_a_counter_that_goes_backwards_is_null() -> None:
    recording = Recording([0, 3, 3, 100], [100] * 4, [900, 1200, 0, 9700])
    block = block_of(ReplayMeter(recording, VirtualClock()))
    assert block.energy_j is None and block.reason == "the recorded counter went backwards"


@pytest.mark.parametrize(("tokens", "watts", "said"), [(0, 100, "made no token"), (5, 0, "did not move in 5.2 s")])
def test_what_says_nothing_about_a_token_is_null(tokens: int, watts: float, said: str) -> None:
    block = block_of(ReplayMeter(constant(watts), VirtualClock()), tokens=tokens)
    assert block.energy_j is None and block.reason and said in block.reason
