"""Warming up lasts until runs take as long as those before, and says where a machine is too restless to tell."""

from __future__ import annotations

import random

import pytest

from specbench_s2d.bench.warm_up import MOST_RUNS, WarmUp, warm_up


def after(*seconds: float) -> WarmUp:
    left = list(seconds)
    return warm_up(lambda: left.pop(0))


def test_it_ends_when_three_runs_take_what_the_three_before_took() -> None:
    """Of 9, 4, 2, 1, 1 … the medians of three agree from the sixth 1 on, but for one 2 that a median does not see."""
    assert after(9.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 7.0) == WarmUp(8, 0.0, 0.0, stable=True)


def test_six_runs_are_the_least() -> None:
    assert after(*[1.0] * 16).runs == 6


def test_jitter_of_some_per_cent_and_one_slow_run_are_steady() -> None:
    """Three runs in a row never lie within 5 % here."""
    assert after(1.0, 1.08, 0.99, 1.09, 1.0, 3.0) == WarmUp(
        6, pytest.approx(0.09), pytest.approx(0.10 / 1.04), stable=True
    )


def test_what_grows_faster_by_a_tenth_is_not_warm() -> None:
    assert not after(*[0.95**n for n in range(16)]).stable
    assert after(*[0.97**n for n in range(16)]).stable


def test_a_restless_machine_is_named_and_not_waited_for() -> None:
    assert after(*[1.0, 2.0] * 8) == WarmUp(MOST_RUNS, 1.0, pytest.approx(1 / 1.5), stable=False)


def test_the_manifest_gets_all_of_it() -> None:
    assert WarmUp(6, 0.0, 0.01, stable=True).facts() == {"runs": 6, "drift": 0.0, "spread": 0.01, "stable": True}


@pytest.mark.parametrize(("jitter", "least", "most"), [(0.03, 0.0, 0.005), (0.06, 0.0, 0.005), (0.30, 0.70, 1.0)])
def test_jitter_at_rest_is_steady_and_restlessness_is_not(jitter: float, least: float, most: float) -> None:
    """The share of 1,000 warm-ups called unsteady, of runs that scatter log-normally; seeded, so it repeats."""
    drawn = random.Random(0)
    unsteady = sum(not warm_up(lambda: drawn.lognormvariate(0.0, jitter)).stable for _ in range(1000))
    assert least <= unsteady / 1000 <= most
