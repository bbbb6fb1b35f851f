"""Threads: the fastest number for one token, and torch's own set for a while and put back."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from specbench_s2d.models.engines.threads import common_threads, fastest_threads, most_threads, torch_threads
from tests.fakes import Clock


def test_threads_are_put_back_whatever_happens() -> None:
    before = torch.get_num_threads()
    seen = list[int]()

    def fail() -> None:
        with torch_threads(before + 1):
            seen.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    with torch_threads(None):
        assert torch.get_num_threads() == before


def test_of_a_pair_the_one_that_wants_more_is_heard_and_one_that_wants_them_left() -> None:
    assert common_threads([1, 4]) == 4
    assert common_threads([1, None]) is None
    assert common_threads([2]) == 2


def test_the_number_with_the_least_time_is_taken() -> None:
    """On a clock that only the passes move: 2 threads take 5 ms, others more."""
    cost_s, clock, ran = {1: 0.009, 2: 0.005, 4: 0.007}, Clock(), Counter[int]()

    def run(count: int) -> None:
        ran[count] += 1
        clock.now += cost_s[count]

    assert fastest_threads(run, most=4, now=clock) == (2, {1: 9.0, 2: 5.0, 4: 7.0})
    assert len(set(ran.values())) == 1, "each is tried as often"


@pytest.mark.parametrize("busy_passes", [1, 9, 16, 25])
def test_a_busy_time_at_the_start_does_not_decide(busy_passes: int) -> None:
    """While another program has a core, two threads take 40 ms instead of 5."""
    clock, ran = Clock(), list[int]()

    def run(count: int) -> None:
        ran.append(count)
        clock.now += 0.040 if count == 2 and len(ran) <= busy_passes else {1: 0.009, 2: 0.005}[count]

    assert fastest_threads(run, most=2, now=clock) == (2, {1: 9.0, 2: 5.0})
    assert len(ran) == (48 if busy_passes > 12 else 32), "a look that no other confirms is taken again"


def test_looks_come_to_an_end_where_none_agree() -> None:
    clock, ran = Clock(), list[int]()

    def run(count: int) -> None:
        ran.append(count)
        clock.now += 1 / len(ran)

    assert fastest_threads(run, most=2, now=clock)[0] == 2
    assert len(ran) == 6 * 16


def test_a_number_between_powers_of_two_is_tried_too() -> None:
    _, times_ms = fastest_threads(lambda count: None, most=6)
    assert list(times_ms) == [1, 2, 4, 6]


def test_where_there_is_one_thread_nothing_is_timed() -> None:
    assert fastest_threads(lambda count: pytest.fail("timed"), most=1) == (1, {})


def test_no_more_threads_are_tried_than_torch_may_use() -> None:
    with torch_threads(1):
        assert most_threads() == 1
