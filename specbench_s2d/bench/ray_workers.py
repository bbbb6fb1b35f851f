"""Workers as Ray tasks: Ray says where they run and starts them; records come back to the driver by a connection of
their own, as from processes of this machine."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge, wait
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from specbench_s2d.bench.devices import OF_LAUNCHERS, Seat
from specbench_s2d.bench.local_workers import SHARED_CPU
from specbench_s2d.bench.messages import Gone, Link, Order, Workers, received
from specbench_s2d.bench.worker import work
from specbench_s2d.errors import UserError, in_one_line
from specbench_s2d.measure.machine import usable_cores
from specbench_s2d.models.devices import HOST, DtypeChoice, dtype_by_default
from specbench_s2d.shards import is_number

START_S = 300.0
"""Seconds in which a worker that Ray was asked for must have begun, and a cluster must have answered."""
_ADDRESS_S = 10.0
_GRACE_S = 3.0
_LOOK_S = 0.1
_OBJECT_STORE_BYTES = 200 * 2**20  # nothing of a run goes through it
Node = Mapping[str, float]
"""A node's resources, by Ray's names."""


def connect(address: str | None = None) -> Any:
    """Ray, connected to the cluster at `address` (HOST:PORT, or auto), by default to that of RAY_ADDRESS, else to one
    that is started here for this process.

    Raises `UserError` without the package, and where nothing answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS") or "local" if address is None else address
    if address == "local":
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else it writes a token into the home folder
    try:
        import ray
    except ImportError:
        raise UserError("--ray: Ray is not installed here; pip install 'specbench-s2d[ray]'.") from None
    _hush(ray)
    if ray.is_initialized():
        return ray
    _check_answers(address)
    started: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.WARNING,
            **(started if address == "local" else {}),
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        why = in_one_line(error, whole=True)
        raise UserError(f"--ray-address {address}: no Ray cluster there ({why}).") from error
    return ray


def _hush(ray: Any) -> None:
    """Keep Ray from printing what its nodes say, dozens of lines of one that dies, on this process's output, where the
    table goes; the run says in a line of its own which worker it lost, and why."""
    ray._private.worker.print_to_stdstream = lambda *args, **kwargs: None


def _check_answers(address: str) -> None:
    """Raise `UserError` for an address where nobody answers, for which Ray would wait long."""
    if address in ("local", "auto"):
        return
    host, colon, port = address.rpartition(":")
    is_port = is_number(port) and int(port) < 2**16
    if "://" in address or not (colon and host and is_port):
        raise UserError(
            f"--ray-address {address}: give HOST:PORT of the head, or auto; this command runs on a node of the cluster."
        )
    try:
        socket.create_connection((host, int(port)), _ADDRESS_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--ray-address {address}: nothing answers there ({in_one_line(error)}).") from error


def resources_each(text: str, device: str, nodes: Sequence[Node]) -> tuple[int, dict[str, float]]:
    """How many workers `--devices TEXT` is on a cluster of these nodes, and what each is given.

    On GPUs: one each, with a core. On a CPU: as many cores each as let all find room, `all` for one core each. Raises
    `UserError` for what the cluster does not have, for which Ray would wait for ever.
    """
    name = "CPU" if device == HOST else "GPU"
    there = int(sum(min(node.get(name, 0), node.get("CPU", 0)) // 1 for node in nodes))  # a GPU's host works too
    has = f"the Ray cluster has {there} {name}s on {len(nodes)} nodes"
    if text != "all" and not text.isdecimal():
        raise UserError(f"--devices {text}: Ray places the workers; give all, or how many ({has}).")
    count = there if text == "all" else int(text)
    if not 1 <= count <= there:
        advice = (
            f"Give 1 to {there}, or add nodes." if there else f"Add nodes that have {name}s, or give another --device."
        )
        raise UserError(f"--devices {text}: {has}; Ray would wait for ever. {advice}")
    if device != HOST:
        return count, {"num_gpus": 1, "num_cpus": 1}
    each = max(c for c in range(1, there + 1) if sum(node.get(name, 0) // c for node in nodes) >= count)
    return count, {"num_cpus": each}


def default_dtype_there(ray: Any) -> DtypeChoice:
    """The number format by default of the cluster's GPUs, asked of one on each node; `ray`: connected. The driver may
    have no GPU, or another one.

    Raises `UserError` where a node does not answer.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    options = {"num_cpus": 0, "num_gpus": 0.01, "max_calls": 1, "max_retries": 0}
    strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    tasks = [ray.remote(**options, scheduling_strategy=one)(dtype_by_default).remote("cuda") for one in strategies]
    try:
        found: list[DtypeChoice] = ray.get(tasks, timeout=START_S)
    except Exception as error:  # whatever Ray raises, or torch there
        why = in_one_line(getattr(error, "cause", None) or error, whole=True)
        raise UserError(f"--ray: a node does not say which GPUs it has ({why}); give --dtype.") from error
    older = [choice for choice in found if choice.name == "float16"]
    return next(iter(older + found), dtype_by_default("cuda"))


class RayWorkers(Workers):
    """One Ray task for each worker, in a process of its own. `ray`: connected."""

    def __init__(self, ray: Any, count: int, resources: Mapping[str, float], on_cpu: bool) -> None:
        self._ray, self.count, self._cores = ray, count, int(resources["num_cpus"]) if on_cpu else 0
        options = {"max_retries": 0, "max_calls": 1, "scheduling_strategy": "SPREAD", **resources}
        self._task = ray.remote(**options)(_in_ray)
        self._secret = secrets.token_bytes(32)
        self._listener = Listener((ray.util.get_node_ip_address(), 0), backlog=count)
        self._tasks: dict[int, tuple[Any, float]] = {}
        self._connections: dict[int, Connection] = {}
        self._closing, self._accepting = False, threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def order(self, order: Order) -> Order:
        """The order; on a CPU with what tells this worker from another on the same host, where it finds no cores of its
        own, and why energy is not metered."""
        if not self._cores:
            return order
        return replace(order, device_part=f":worker-{order.seat + 1}", no_energy=SHARED_CPU if self.count > 1 else None)

    def start(self, order: Order) -> None:
        """Ask Ray for a worker; it calls back when it has begun."""
        self._tasks[order.seat] = (
            self._task.remote(order, self._cores, self._listener.address, self._secret),
            time.monotonic(),
        )

    def hear(self, timeout_s: float) -> list[tuple[int, Any]]:
        """A message of every worker that has one; of those that Ray lost, or never started, that they are gone."""
        seat_of: dict[Any, int] = {connection: seat for seat, connection in list(self._connections.items())}
        step_s = min(timeout_s, _LOOK_S)
        if not seat_of:
            time.sleep(step_s)
        ready: list[Any] = wait(list(seat_of), step_s)
        heard = [(seat_of[one], received(one)) for one in ready]
        heard = [(seat, self._why(seat) if message is None else message) for seat, message in heard]
        if not ready:
            heard = [(seat, Gone(why)) for seat in list(self._tasks) if (why := self._lost(seat))]
        for seat, message in heard:
            if isinstance(message, Gone):
                self._forget(seat)
        return heard

    def tell(self, seat: int, message: Any) -> None:
        """Send a message."""
        if seat in self._connections:
            with suppress(OSError):
                self._connections[seat].send(message)

    def close(self) -> None:
        """End every task, and take no more calls."""
        self._forget(*self._tasks)
        self._closing = True
        with suppress(OSError):  # one more call, for the thread to see that
            socket.create_connection(self._listener.address, _ADDRESS_S).close()
        self._accepting.join(_ADDRESS_S)
        self._listener.close()

    def _accept(self) -> None:
        """Take calls, each on a thread of its own: a caller that is none of ours may say nothing for ever."""
        while not self._closing:
            with suppress(OSError):
                threading.Thread(target=self._greet, args=(self._listener.accept(),), daemon=True).start()

    def _greet(self, caller: Connection) -> None:
        """Have a caller prove the secret; a worker then says which seat it has."""
        try:
            deliver_challenge(caller, self._secret)
            answer_challenge(caller, self._secret)
            self._connections[caller.recv()] = caller
        except (AuthenticationError, EOFError, OSError):  # it is none of ours, or died at once
            caller.close()

    def _lost(self, seat: int) -> str | None:
        """Why there is nothing more to expect of a worker without a word waiting; None while there is."""
        task, since_s = self._tasks[seat]
        if self._ray.wait([task], timeout=0)[0]:
            return self._why(seat).why
        if seat not in self._connections and time.monotonic() - since_s > START_S:
            return f"Ray started no worker within {START_S:.0f} s"
        return None

    def _why(self, seat: int) -> Gone:
        """What Ray says of a worker that has ended."""
        try:
            self._ray.get(self._tasks[seat][0], timeout=_ADDRESS_S)
        except Exception as error:  # whatever Ray, or the function there, raised
            return Gone(in_one_line(getattr(error, "cause", None) or error, whole=True))
        return Gone("it ended")

    def _forget(self, *seats: int) -> None:
        """End what is left of some workers. Without their connections they end by themselves; only what does not is
        cancelled, for Ray itself can fail where a task that is being cancelled returns."""
        for seat in seats:
            if connection := self._connections.pop(seat, None):
                connection.close()
        tasks = [self._tasks.pop(seat)[0] for seat in seats]
        with suppress(Exception):  # the cluster has ended
            for task in self._ray.wait(tasks, num_returns=len(tasks), timeout=_GRACE_S)[1] if tasks else ():
                self._ray.cancel(task, force=True)


def claim_cores(count: int, folder: Path | None = None) -> list[int]:
    """As many cores of this node as asked for, which no other worker of Ray on it has, while this process lives; none
    where too few are free, as where Ray was told of more cores than there are. `folder`: of the locks, by default one
    of the user's.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"specbench-s2d-cores-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    claimed: dict[int, FileLock] = {}
    for core in usable_cores():
        lock = FileLock(str(folder / str(core)), timeout=0)
        with suppress(Timeout):
            lock.acquire()
            claimed[core] = lock
        if len(claimed) == count:
            _held.extend(claimed.values())
            return list(claimed)
    for lock in claimed.values():
        lock.release()
    return []


_held: list[FileLock] = []  # the system frees them when the process ends, however it does


def _in_ray(order: Order, cores: int, address: tuple[str, int], secret: bytes) -> None:
    """What the task does; `cores`: how many to bind itself to, 0 for none."""
    for name in OF_LAUNCHERS:
        os.environ.pop(name, None)
    if cores and hasattr(os, "sched_setaffinity") and (claimed := claim_cores(cores)):
        os.sched_setaffinity(0, claimed)
        order = replace(order, device_part=Seat(claimed).device_part)
    with Client(address, authkey=secret) as connection:
        connection.send(order.seat)
        work(order, Link(connection))
