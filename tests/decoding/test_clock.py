"""Clocks: what a mark costs, when a GPU is waited for, and which unit comes out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from specbench_s2d.decoding.clock import CudaClock, HostClock, clock_for

CUDA = torch.device("cuda", 1)


class FakeEvent:
    """A CUDA event of a stream that reaches its nth event after n milliseconds; counts waits and orders."""

    log: list[str] = []  # noqa: RUF012 (emptied by the fixture)
    recorded = 0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing, "an event without timing cannot be read"
        self.at_ms: float | None = None
        self.reached = False

    def record(self, stream: str) -> None:
        FakeEvent.recorded += 1
        self.at_ms = float(FakeEvent.recorded)
        FakeEvent.log.append(f"record on {stream}")

    def synchronize(self) -> None:
        self.reached = True
        FakeEvent.log.append("wait")

    def elapsed_time(self, later: FakeEvent) -> float:
        assert later.reached, "CUDA refuses events that are not reached"
        assert later.at_ms is not None and self.at_ms is not None
        return later.at_ms - self.at_ms


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    FakeEvent.log, FakeEvent.recorded = [], 0
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    return FakeEvent.log


def test_a_cpu_is_timed_by_the_host() -> None:
    moments = iter([10.0, 10.25, 12.25])
    clock = HostClock(lambda: next(moments))
    first, second, third = clock.mark(), clock.mark(), clock.mark()
    assert (clock.seconds(first, second), clock.seconds(second, third)) == (0.25, 2.0)


def test_waiting_waits_for_the_device_and_on_a_cpu_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    clock_for(CUDA).wait()
    host = clock_for(torch.device("cpu"))
    assert isinstance(host, HostClock)
    host.wait()
    assert waited == [CUDA]


def test_marks_on_a_gpu_wait_for_nothing(log: list[str]) -> None:
    clock = clock_for(CUDA)
    assert isinstance(clock, CudaClock)
    for _ in range(3):
        clock.mark()
    assert log == ["record on the stream of cuda:1"] * 3


def test_seconds_on_a_gpu_wait_for_the_later_mark_and_are_seconds(log: list[str]) -> None:
    clock: Any = clock_for(CUDA)
    first, _, third = clock.mark(), clock.mark(), clock.mark()
    assert clock.seconds(first, third) == 0.002
    assert log.count("wait") == 1 and third.reached and not first.reached


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_events_agree_with_a_synchronised_host_clock() -> None:
    """Some 50 ms of products: the two clocks see the same work, to 10 % and a launch."""
    clock, host = clock_for(torch.device("cuda")), HostClock()
    square = torch.randn(4096, 4096, device="cuda")
    square @ square
    torch.cuda.synchronize()
    before, started = host.mark(), clock.mark()
    for _ in range(20):
        square @ square
    ended = clock.mark()
    took = clock.seconds(started, ended)
    assert took == pytest.approx(host.seconds(before, host.mark()), rel=0.1, abs=0.001)
