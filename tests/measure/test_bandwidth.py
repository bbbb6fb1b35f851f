"""The read rate: which rounds count, when more are due, how large the buffer is, and that all of it is read."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from specbench_s2d.measure import bandwidth
from specbench_s2d.measure.bandwidth import ReadRate, read_rate, read_rate_of, reproducible
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.engines import native_memory
from specbench_s2d.models.engines.native_build import NoCompilerError, native_library

MIB = 2**20


class RoundClock:
    """A clock by which rounds take these seconds one after the other, and the last ones again and again."""

    def __init__(self, *rounds_s: float) -> None:
        self._rounds_s, self.rounds = rounds_s, 0

    def mark(self) -> None:
        return None

    def wait(self) -> None:
        raise AssertionError("marks are enough")

    def seconds(self, first: None, last: None) -> float:
        self.rounds += 1
        return self._rounds_s[min(self.rounds, len(self._rounds_s)) - 1]


@pytest.fixture(autouse=True)
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "CPU_ROUND_BYTES", MIB)


def of(clock: RoundClock, wanted: int = MIB, free: int = 2**40) -> ReadRate:
    return ReadRate("cpu", wanted, 1, lambda device: free, clock)


def test_the_best_rate_that_one_round_in_ten_and_three_rounds_reach() -> None:
    assert reproducible([50.0, 31.0, 30.0, 29.0]) == 30.0
    assert reproducible([50.0] + 3 * [31.0] + 26 * [20.0]) == 31.0
    assert reproducible(3 * [50.0] + 37 * [31.0]) == 31.0
    assert reproducible([50.0]) == 50.0 and reproducible([50.0, 31.0]) == 31.0


def test_one_lucky_round_is_not_the_rate() -> None:
    """1 MiB a round: in 1/4 s once, else in 1/2 s."""
    rate = of(RoundClock(0.5, 0.25, 0.5))
    rate.measure(15)
    assert rate.bytes_per_s == 2 * MIB
    facts = rate.facts()
    assert (facts["low_bytes_per_s"], facts["high_bytes_per_s"], facts["rounds"]) == (2 * MIB, 4 * MIB, 15)
    assert (facts["buffer_bytes"], facts["threads"]) == (MIB, 1) and "reason" not in facts


def test_a_small_buffer_is_read_again_and_again_in_a_round() -> None:
    rate = of(RoundClock(1.0), MIB // 4)
    rate.measure(1)
    assert rate.bytes_per_s == MIB and rate.facts()["buffer_bytes"] == MIB // 4


def test_more_rounds_are_due_two_seconds_after_the_last_and_thirty_times_their_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(bandwidth.time, "monotonic", lambda: now[0])
    rate = of(RoundClock(1.0))
    rate.measure(15)
    counts = []
    for now[0] in (101.0, 102.0, 102.5, 104.1):
        rate.measure_if_due()
        counts.append(rate.facts()["rounds"])
    assert counts == [15, 20, 20, 25]

    def costly(*_: Any) -> float:
        now[0] += 1.0
        return 1.0

    slow = of(RoundClock(1.0))
    monkeypatch.setattr(slow, "_read", costly)
    slow.measure(1)
    now[0] += 29.0
    slow.measure_if_due()
    assert slow.facts()["rounds"] == 1
    now[0] += 1.0
    slow.measure_if_due()
    assert slow.facts()["rounds"] == 6


def test_the_buffer_is_no_larger_than_a_quarter_of_what_is_free_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "CPU_BUFFER_BYTES", 4 * MIB)
    short = of(RoundClock(1.0), 2 * MIB, free=4 * MIB)
    short.measure(1)
    assert short.facts()["buffer_bytes"] == MIB
    assert short.facts()["reason"] == "a buffer of 1 MiB, not 2: 4 are free"
    large = of(RoundClock(1.0), 2**40)
    large.measure(1)
    assert large.facts()["buffer_bytes"] == 4 * MIB and "reason" not in large.facts()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1001])
def test_the_kernel_reads_every_float(rows: int, threads: int) -> None:
    kernel = native_library()
    block, _ = native_memory.large_page_block(rows * native_memory.PANEL, kernel)
    block.copy_(torch.arange(block.numel()) % 7)
    assert native_memory.stream(block, threads, 2, kernel) == float(block.sum())


def test_without_a_compiler_torch_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> ctypes.CDLL:
        raise NoCompilerError("none")

    monkeypatch.setattr(bandwidth, "native_library", none)
    rate = of(RoundClock(1.0))
    rate.measure(1)
    assert rate.facts()["read_by"] == "torch" and rate.bytes_per_s == MIB


def test_a_model_s_rate_has_its_engine_s_threads() -> None:
    model = cast(LanguageModel, SimpleNamespace(device=torch.device("cpu"), engine_facts={"threads": 2}))
    rate = read_rate_of(model, 1000)
    rate.measure(1)
    assert (rate.facts()["threads"], rate.facts()["buffer_bytes"]) == (2, 1024)
    eager = cast(LanguageModel, SimpleNamespace(device=torch.device("cpu"), engine_facts={"engine": "eager"}))
    rate = read_rate_of(eager, 1000)
    rate.measure(1)
    assert rate.facts()["threads"] == torch.get_num_threads()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_faster_than_a_bus() -> None:
    assert 5e10 < read_rate("cuda") < 5e13
