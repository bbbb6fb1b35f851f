"""Workers for tests of the pool: threads of this process in place of processes, which do what a script says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from specbench_s2d.bench.devices import Seat
from specbench_s2d.bench.local_workers import LocalWorkers
from specbench_s2d.bench.messages import Ask, Begin, Hello, Kept, Order, Work
from specbench_s2d.bench.plan import Cell, Plan
from specbench_s2d.bench.runner import record_of
from specbench_s2d.measure.environment import software_facts
from specbench_s2d.runs.record import Record

Script = Callable[[Order, Connection], None]


class Killed(Exception):
    """A script's worker dies here: its connection closes without a word."""


class ThreadWorkers(LocalWorkers):
    """Each worker is a thread that runs the script of its turn: the n-th that is started, the n-th script; the last
    script from there on."""

    def __init__(self, count: int, scripts: Sequence[Script]) -> None:
        super().__init__([Seat([number]) for number in range(count)])
        self._scripts, self.started = list(scripts), list[int]()

    def start(self, order: Order) -> None:
        ours, theirs = Pipe()
        script = self._scripts[min(len(self.started), len(self._scripts) - 1)]
        self.started.append(order.seat)
        self._running[order.seat] = _AsProcess(script, order, theirs), ours  # type: ignore[assignment]


class _AsProcess(threading.Thread):
    """A thread with what the pool asks of a process."""

    exitcode = -9

    def __init__(self, script: Script, order: Order, connection: Connection) -> None:
        super().__init__(daemon=True)
        self._script, self._order, self._connection = script, order, connection
        self.start()

    def run(self) -> None:
        try:
            self._script(self._order, self._connection)
        except (Killed, EOFError, OSError):
            pass
        finally:
            self._connection.close()

    def kill(self) -> None:
        """Nothing kills a thread; it ends when it finds its connection closed."""


def hello(order: Order, connection: Connection, **environment: Any) -> Begin:
    """Say hello from a device named after the seat, and what the driver answers."""
    connection.send(Hello(f"cpu:test{order.device_part}", {**software_facts(), **environment}))
    begin = connection.recv()
    assert isinstance(begin, Begin)
    return begin


def worker_of(
    plan: Plan, dies_after: int | None = None, seen: list[Cell] | None = None, fails: Container[str] = ()
) -> Script:
    """A worker that skips every cell it is given, round by round, and dies after so many rounds; cells with keys in
    `fails` fail."""

    def made(cell: Cell, device: str) -> Record:
        record = skipped(plan, cell, device)
        return record.updated(status="failed", error="no memory left") if cell.key in fails else record

    def script(order: Order, connection: Connection) -> None:
        hello(order, connection)
        rounds = 0
        while True:
            connection.send(Ask())
            given = connection.recv()
            if not isinstance(given, Work):
                return
            held = {record.key for record in given.held}
            for asked in plan.rounds(given.block.target, given.block.places):
                cells = [cell for cells in asked.conversations for cell in cells if cell.key not in held]
                if rounds == dies_after:
                    raise Killed
                connection.send(Kept([made(cell, order.device_part) for cell in cells]))
                rounds += 1
                if seen is not None:
                    seen.extend(cells)

    return script


def skipped(plan: Plan, cell: Cell, device: str = "") -> Record:
    return record_of(plan, "run", cell, "skipped", "a test skips it", device_id=f"cpu:test{device}")
