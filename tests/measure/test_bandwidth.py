"""Streaming rates: what a round moves, which round counts, and the buffer where memory is short."""

from __future__ import annotations

import pytest
import torch

from specbench_s2d.measure.bandwidth import (
    CPU_BUFFER_BYTES,
    GPU_BUFFER_BYTES,
    copy_first_half,
    rates,
    read_rate,
    usual_buffer_bytes,
)

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


def test_the_best_round_counts() -> None:
    """64 MiB in half a second; the first round takes 2 s, and the third 1 s."""
    assert read_rate("cpu", 64 * MIB, RoundClock(2.0, 0.5, 1.0)) == 128 * MIB


def test_a_copy_reads_one_half_and_writes_the_other() -> None:
    """64 MiB in half a second, either way: a read moves all of it, a copy reads 32 MiB and writes 32 MiB."""
    measured = rates("cpu", 64 * MIB, clock=RoundClock(0.5))
    assert (measured.buffer_bytes, measured.reason) == (64 * MIB, None)
    assert measured.read_bytes_per_s == measured.copy_bytes_per_s == 128 * MIB
    buffer = torch.arange(8, dtype=torch.float32)
    copy_first_half(buffer)
    assert buffer.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.mark.parametrize(("round_s", "rounds"), [(10.0, 3), (0.125, 5), (0.001, 10)])
def test_at_least_three_rounds_and_at_most_half_a_second_of_more(round_s: float, rounds: int) -> None:
    clock = RoundClock(round_s)
    read_rate("cpu", 16 * MIB, clock)
    assert clock.rounds == rounds


def test_usual_buffers_are_beyond_any_cache() -> None:
    assert usual_buffer_bytes("cpu") == CPU_BUFFER_BYTES == 1024 * MIB
    assert usual_buffer_bytes("cuda:1") == GPU_BUFFER_BYTES == 8 * 1024 * MIB


@pytest.mark.parametrize(("free", "expected"), [(100 * MIB, 48 * MIB), (MIB, 16 * MIB)])
def test_where_memory_is_short_the_buffer_is_half_of_it_and_the_reason_says_so(free: int, expected: int) -> None:
    measured = rates("cpu", 64 * MIB, lambda device: free, RoundClock(0.5))
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
