"""Plots drawn in several processes: drawing holds one core, and no plot needs another.

A process is started by name, not through `multiprocessing`, whose processes would run the caller's script once more.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from specbench_s2d.cgroup import usable_cores

Draw = Callable[[int, int], list[Path]]
"""Draws each n-th plot from a first one on; returns the files written. It is pickled."""

MOST = 8
_SIZE = 8  # bytes of an order's length
PANELS_EACH = 24
"""Panels that a further process must have to draw: starting one takes as long as about eight."""


def processes_for(panels: int) -> int:
    """How many processes draw so many panels soonest on the cores that this one may use."""
    return max(1, min(panels // PANELS_EACH, usable_cores(), MOST))


def draw_in(processes: int, draw: Draw) -> list[Path]:
    """The files that `draw(first, processes)` writes for every `first`, this process drawing with the others.

    Raises what a drawing raised, wherever that was; the other processes are ended then.
    """
    others: list[subprocess.Popen[bytes]] = []
    try:
        for first in range(1, processes):
            others.append(_start(draw, first, processes))
        return [*draw(0, processes), *chain.from_iterable(map(_result, others))]
    finally:
        for other in others:
            other.kill()  # those that have answered have ended
            other.wait()
            for pipe in (other.stdin, other.stdout):
                if pipe:
                    pipe.close()


def _start(draw: Draw, first: int, every: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    order = pickle.dumps((draw, first, every))
    assert process.stdin is not None
    process.stdin.write(len(order).to_bytes(_SIZE) + order)
    process.stdin.flush()  # it stays open: that it closes tells the process that this one is gone
    return process


def _result(process: subprocess.Popen[bytes]) -> list[Path]:
    assert process.stdout is not None
    reply = process.stdout.read()
    if process.wait():
        raise ChildProcessError(f"a process that draws plots ended with {process.returncode}")
    paths, error = pickle.loads(reply)
    if error is not None:
        raise error
    return list(paths)


def serve() -> None:
    """Draw what the standard input asks for, and write to the standard output what became of it; end at once, in the
    middle of a plot too, where the standard input closes."""
    asked = sys.stdin.buffer
    order = asked.read(
        int.from_bytes(asked.read(_SIZE))
    )  # whole, before matplotlib is imported: the other waits for it
    threading.Thread(target=_end_with, args=(asked.fileno(),), daemon=True).start()
    sys.stdout.buffer.write(answer(order))


def answer(order: bytes) -> bytes:
    """The files that an order's drawing writes, or what it raises."""
    draw, first, every = pickle.loads(order)
    try:
        return pickle.dumps((draw(first, every), None))
    except Exception as error:
        return pickle.dumps(([], error))


def _end_with(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(1)
