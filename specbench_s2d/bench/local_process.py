"""The first thing that a worker's process of this machine does; it imports nothing that takes long before."""

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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from specbench_s2d.bench.messages import Link
    from specbench_s2d.bench.worker import work

    work(pickle.loads(order), Link(connection))


def _end_with_parent() -> None:
    """End this process at once when the driver is gone, in the middle of a generation too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
