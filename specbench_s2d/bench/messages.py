"""What a run's driver and its workers say to each other, and how they reach each other.

A worker begins with `Hello` and asks for blocks (`Ask`); what it measures goes to the driver, which alone writes the
run's folder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from specbench_s2d.bench.blocks import Block
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import UserError
from specbench_s2d.models.file_hash import FileState
from specbench_s2d.runs.record import Record


@dataclass(frozen=True)
class Order:
    """What a worker is to do.

    `identity`: the driver's plan's, which the worker's must equal. `schema`: of the folder. `seat`: the worker's
    number, from 0. `device_part`: what tells its device from others of the same host, where cores are meant.
    `no_energy`: why it meters nothing. `memory_bytes`: its share of the host's memory, None for all that is free.
    `hashes`: of files, as the driver read them.
    """

    spec: RunSpec
    identity: Mapping[str, Any]
    schema: int
    launch: int
    folder: Path
    cells: int
    strict: bool
    seat: int
    device_part: str = ""
    no_energy: str | None = None
    memory_bytes: int | None = None
    hashes: Mapping[FileState, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Hello:
    """A worker has started, on this device, in this environment."""

    device_id: str
    environment: dict[str, Any]


@dataclass(frozen=True)
class Begin:
    """The driver's answer: what the manifest says of this device already."""

    part: dict[str, Any]


class Ask:
    """A worker has done its block, if it had one, and asks for the next."""


@dataclass(frozen=True)
class Work:
    """A block to do, and the records of it that there are already."""

    block: Block
    held: Sequence[Record]


class End:
    """There are no more blocks."""


@dataclass(frozen=True)
class Kept:
    """Records to append."""

    records: list[Record]


@dataclass(frozen=True)
class Facts:
    """What the manifest says of this device now."""

    part: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """A line for a person."""

    text: str


@dataclass(frozen=True)
class Refused:
    """What a person did wrong, by which the run ends."""

    error: UserError


@dataclass(frozen=True)
class Gone:
    """A worker has ended, or cannot be reached: why."""

    why: str


class DriverGone(BaseException):
    """The driver cannot be reached, so there is nothing more to do. No `Exception`, for no cell fails by it."""


class Link:
    """A worker's end of the connection; its methods raise `DriverGone`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: Any) -> None:
        """Tell the driver."""
        try:
            self._connection.send(message)
        except OSError as error:
            raise DriverGone from error

    def receive(self) -> Any:
        """Wait for what the driver says."""
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise DriverGone from error


def received(connection: Connection) -> Any:
    """The driver's end: what a worker says; None where its connection has ended, in the middle of a message too."""
    try:
        return connection.recv()
    except (EOFError, OSError, UnpicklingError):
        return None


class Workers(ABC):
    """Places for workers, by number from 0: how workers are started there, heard, told and ended."""

    count: int

    @abstractmethod
    def order(self, order: Order) -> Order:
        """The order with what is particular to the seat it names."""

    @abstractmethod
    def start(self, order: Order) -> None:
        """Start a fresh worker on the order's seat."""

    @abstractmethod
    def hear(self, timeout_s: float) -> list[tuple[int, Any]]:
        """Wait for messages; each with the seat that it is from. Of a worker that ended the last one is `Gone`."""

    @abstractmethod
    def tell(self, seat: int, message: Any) -> None:
        """Send a message; to a worker that has gone, nothing."""

    @abstractmethod
    def close(self) -> None:
        """End every worker that is left, at once."""
