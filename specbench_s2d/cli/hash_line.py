"""The line that shows how far the weights of a large model are read for their hash."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import rich.live

from specbench_s2d.analysis.tables.text import Prose
from specbench_s2d.cli.screen import Screen
from specbench_s2d.spelling import duration

if TYPE_CHECKING:
    from specbench_s2d.models.file_hash import Reading

SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def hashes_shown(console: Screen, show: Callable[[str], None] | None = None) -> Iterator[None]:
    """Show hashing within the block: one line that is rewritten on a terminal, a plain line now and then elsewhere.

    `show`: takes the line on a terminal, "" at the end, in place of a line of its own: of what shows something there
    already.
    """
    from specbench_s2d.models.file_hash import watched

    live = rich.live.Live(console=console, transient=True, refresh_per_second=4)
    last_line_s = float("-inf")

    def rewrite(text: str) -> None:
        if text:
            live.start()
            live.update(Prose(text), refresh=True)
        else:
            live.stop()

    def watch(reading: Reading) -> None:
        nonlocal last_line_s
        if console.is_interactive:
            (show or rewrite)("" if reading.done >= reading.of else _text(reading))
        elif time.monotonic() - last_line_s > SECONDS_BETWEEN_LINES:
            last_line_s = time.monotonic()
            console.say(_text(reading))

    try:
        with watched(watch):
            yield
    finally:
        live.stop()


def _text(reading: Reading) -> str:
    left_s = reading.seconds / reading.done * (reading.of - reading.done) if reading.done else 0.0
    done, of = (f"{count / 1e9:.1f}" for count in (reading.done, reading.of))
    return f"{reading.name}: hash of its weights, once: {done} of {of} GB read, {duration(left_s)} left"
