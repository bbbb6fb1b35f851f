"""Streaming rates: what a round moves, which round counts, and the buffer where memory is short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from specbench_s2d.measure import bandwidth as module
from specbench_s2d.measure.bandwidth import CPU_BUFFER_BYTES, GPU_BUFFER_BYTES, rates, read_rate

MIB = 2**20


class SlowThenFast:
    """A clock by which the first round of every measurement takes 2 s, the second 0.5 s, and later ones 1 s."""

    def __init__(self) -> None:
        self._rounds: Iterator[float] = iter(())

    def start(self) -> SlowThenFast:
        self._rounds = iter([2.0, 0.5, *[1.0] * 100])
        return self

    def mark(self) -> None:
        return None

    def seconds(self, earlier: None, later: None) -> float:
        return next(self._rounds)


@pytest.fixture
def slow_then_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "clock_for", lambda device: SlowThenFast().start())


@pytest.mark.usefixtures("slow_then_fast")
def test_the_best_round_counts_and_a_copy_reads_one_half_and_writes_the_other() -> None:
    """64 MiB in half a second, either way: a read moves all of it, a copy reads 32 MiB and writes 32 MiB."""
    measured = rates("cpu", 64 * MIB)
    assert (measured.buffer_bytes, measured.reason) == (64 * MIB, None)
    assert measured.read_bytes_per_s == measured.copy_bytes_per_s == 128 * MIB
    assert read_rate("cpu", 64 * MIB) == 128 * MIB


def test_a_copy_moves_one_half_into_the_other() -> None:
    buffer = torch.arange(8, dtype=torch.float32)
    module._copy(buffer)
    assert buffer.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_at_least_three_rounds_and_at_most_half_a_second_of_more(monkeypatch: pytest.MonkeyPatch) -> None:
    done, now = [], [0.0]

    def work(takes_s: float) -> None:
        done.append(takes_s)
        now[0] += takes_s

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    module._best_s(lambda: work(10.0), torch.device("cpu"))
    assert len(done) == 3
    done.clear()
    module._best_s(lambda: work(0.125), torch.device("cpu"))
    assert len(done) == 5
    done.clear()
    module._best_s(lambda: work(0.0), torch.device("cpu"))
    assert len(done) == 10


def test_usual_buffers_are_beyond_any_cache() -> None:
    assert module._usual_bytes(torch.device("cpu")) == CPU_BUFFER_BYTES == 1024 * MIB
    assert module._usual_bytes(torch.device("cuda")) == GPU_BUFFER_BYTES == 8 * 1024 * MIB


@pytest.mark.parametrize(("free", "expected"), [(100 * MIB, 48 * MIB), (MIB, 16 * MIB)])
@pytest.mark.usefixtures("slow_then_fast")
def test_where_memory_is_short_the_buffer_is_half_of_it_and_the_reason_says_so(
    free: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda device: free)
    measured = rates("cpu", 64 * MIB)
    assert measured.buffer_bytes == expected
    assert measured.reason == f"a buffer of {expected // MIB} MiB, not 64: {free // MIB} MiB were free"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_its_memory_back_and_is_faster_than_a_bus() -> None:
    before = torch.cuda.memory_reserved()
    measured = rates("cuda")
    assert torch.cuda.memory_reserved() == before
    assert 5e10 < measured.read_bytes_per_s < 5e13
    assert 5e10 < measured.copy_bytes_per_s < 5e13
