"""The timer of passes, on a clock that only the work moves."""

from __future__ import annotations

import torch

from specbench_s2d.models.pass_timer import PassTimer
from tests.fakes import Clock


def test_rounds_are_kept_by_name_and_warm_up_rounds_are_not() -> None:
    clock = Clock()
    takes_s = iter([100.0, 1.0, 4.0, 2.0])
    timer = PassTimer(torch.device("cpu"), clock)

    def pass_s(seconds: float) -> None:
        clock.now += seconds

    def one_round() -> None:
        timer.time("long", lambda: pass_s(next(takes_s)))
        pass_s(50.0)  # between two passes nothing is timed
        timer.time(("short", 2), lambda: pass_s(3.0), parts=2)

    timer.rounds(one_round, rounds=3, warm_up=1)
    assert timer.rounds_s("long") == (1.0, 4.0, 2.0)
    assert timer.median_s("long") == 2.0
    assert timer.rounds_s(("short", 2)) == (1.5, 1.5, 1.5)


def test_what_was_never_timed_has_no_seconds() -> None:
    assert PassTimer(torch.device("cpu")).rounds_s("nothing") == ()
