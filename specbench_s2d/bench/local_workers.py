"""Workers as processes of this machine, each bound to its GPU and its cores before it starts."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from specbench_s2d.bench.devices import Seat
from specbench_s2d.bench.local_process import begin
from specbench_s2d.bench.messages import Gone, Order, Workers, received
from specbench_s2d.cgroup import available_bytes

SHARED_CPU = "not metered: a CPU's counters are of all its cores, which several workers share"
_ENDING_S = 10.0


class LocalWorkers(Workers):
    """One process for each seat."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._seats, self.count = seats, len(seats)
        self._running: dict[int, tuple[BaseProcess, Connection]] = {}
        self._share_bytes = available_bytes() // len(seats)

    def order(self, order: Order) -> Order:
        """The order with this seat's cores and its share of the host's memory."""
        seat = self._seats[order.seat]
        no_energy = SHARED_CPU if seat.gpu is None and self.count > 1 else None
        return replace(order, device_part=seat.device_part, no_energy=no_energy, memory_bytes=self._share_bytes)

    def start(self, order: Order) -> None:
        """Start a process that has this seat's variables and cores from its first instruction on."""
        seat = self._seats[order.seat]
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=begin, args=(pickle.dumps(order), theirs), daemon=True)
        with _variables(seat.environment(os.environ)), _bound_to(seat.cores):
            process.start()
        theirs.close()
        self._running[order.seat] = process, ours

    def hear(self, timeout_s: float) -> list[tuple[int, Any]]:
        """A message of every worker that has one."""
        seat_of = {connection: seat for seat, (_, connection) in self._running.items()}
        return [(seat_of[ready], self._message(seat_of[ready])) for ready in wait(list(seat_of), timeout_s)]  # type: ignore[index]

    def tell(self, seat: int, message: Any) -> None:
        """Send a message."""
        if seat in self._running:
            with suppress(OSError):  # it has ended, and is heard of as gone
                self._running[seat][1].send(message)

    def close(self) -> None:
        """Kill what runs."""
        for process, connection in self._running.values():
            process.kill()
            connection.close()
            process.join(_ENDING_S)
        self._running.clear()

    def _message(self, seat: int) -> Any:
        process, connection = self._running[seat]
        message = received(connection)
        if message is None:
            process.join(_ENDING_S)
            code = process.exitcode
            message = Gone(f"killed by signal {-code}" if code and code < 0 else f"exit code {code}")
        if isinstance(message, Gone):
            connection.close()
            process.join(_ENDING_S)
            del self._running[seat]
        return message


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """This process's variables, which one that is started takes over, for a moment."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _bound_to(cores: Sequence[int]) -> Iterator[None]:
    """This thread's cores, which a process that it starts takes over, for a moment."""
    if not hasattr(os, "sched_setaffinity"):  # macOS binds no process to a core
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
