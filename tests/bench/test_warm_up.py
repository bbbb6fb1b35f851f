"""Warming up lasts until three runs agree within 5 %."""

from __future__ import annotations

import pytest

from specbench_s2d.bench.warm_up import WarmUp, warm_up


def after(*seconds: float) -> WarmUp:
    left = list(seconds)
    return warm_up(lambda: left.pop(0))


def test_it_ends_when_the_last_three_agree() -> None:
    assert after(9.0, 4.0, 2.0, 1.0, 1.02, 1.04, 7.0) == WarmUp(6, pytest.approx(0.04 / 1.02), stable=True)


def test_three_runs_are_the_least() -> None:
    assert after(1.0, 1.0, 1.0, 1.0).runs == 3


def test_a_restless_machine_is_named_and_not_waited_for() -> None:
    assert after(*[1.0, 2.0] * 5) == WarmUp(8, pytest.approx(1 / 2), stable=False)


def test_just_above_the_bound_does_not_agree() -> None:
    assert not warm_up(iter([1.0, 1.0, 1.051]).__next__, most_runs=3).stable
    assert warm_up(iter([1.0, 1.0, 1.049]).__next__, most_runs=3).stable


def test_too_few_runs_say_nothing() -> None:
    assert warm_up(lambda: 1.0, most_runs=2) == WarmUp(2, None, stable=False)


def test_the_manifest_gets_all_of_it() -> None:
    assert WarmUp(3, 0.01, stable=True).facts() == {"runs": 3, "spread": 0.01, "stable": True}
