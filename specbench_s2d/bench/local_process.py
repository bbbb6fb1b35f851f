"""The first thing that a process of a worker, or of a launch, does on this machine; it imports nothing that takes long
before."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from multiprocessing.connection import Connection


def begin(order: bytes, connection: Connection) -> None:
    """Do the work of a pickled `Order`. Ctrl-C reaches this process too, and is left to the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    from specbench_s2d.bench.messages import Link
    from specbench_s2d.bench.worker import work

    work(pickle.loads(order), Link(connection))


def begin_launch(arguments: bytes, theirs: Connection) -> None:
    """Run a launch by the pickled arguments of `launches.launch_here`."""
    end_with_parent()
    from specbench_s2d.bench.launches import launch_here

    launch_here(theirs, *pickle.loads(arguments))


def end_with_parent() -> None:
    """End this process at once when the one that started it is gone, in the middle of a generation too: it would go on
    to write to a folder that the same command, given again, wants."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
