"""Marks in a step: on a CPU the time itself, on a GPU events that nothing waits for."""

from __future__ import annotations

import time

import pytest
import torch

from specbench_s2d.decoding.clock import CudaClock, HostClock, clock_for


def test_a_cpu_has_the_hosts_clock() -> None:
    clock = clock_for(torch.device("cpu"))
    assert isinstance(clock, HostClock)
    first = clock.mark()
    time.sleep(0.01)
    clock.wait()
    assert 0.01 <= clock.seconds(first, clock.mark()) < 1


def test_a_cuda_device_has_events() -> None:
    assert isinstance(clock_for(torch.device("cuda:0")), CudaClock)


def test_an_events_milliseconds_become_seconds() -> None:
    class Event:
        def elapsed_time(self, other: object) -> float:
            return 250.0

    event: object = Event()
    assert CudaClock(torch.device("cuda")).seconds(event, event) == 0.25  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_events_see_the_devices_work() -> None:
    clock = clock_for(torch.device("cuda"))
    matrix = torch.randn(4096, 4096, device="cuda")
    clock.wait()
    first = clock.mark()
    for _ in range(20):
        matrix @ matrix
    last = clock.mark()
    clock.wait()
    assert 1e-4 < clock.seconds(first, last) < 10
