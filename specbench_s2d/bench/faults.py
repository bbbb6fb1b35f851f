"""What is raised in a phase of a run becomes the text that cells fail with, and the run goes on.

One way for every phase, from loading to metering. Ctrl-C ends the run as ever.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from specbench_s2d.decoding.faults import PartError
from specbench_s2d.errors import UserError, in_one_line, is_stop
from specbench_s2d.models import LanguageModel
from specbench_s2d.models.devices import release_memory
from specbench_s2d.models.finite import NOT_FINITE


class TargetFault(Exception):
    """A target that cannot be loaded, warmed up or probed: all its cells fail with this text."""


@contextmanager
def phase(doing: str, fail: Callable[[str], object], part: str = "") -> Iterator[None]:
    """Call `fail` with the text of what the block raises; memory that it held is given back first.

    `doing`: the phase, in words. `part`: whose phase it is, such as "draft NAME", where the error does not say.
    """
    try:
        yield
    except BaseException as error:
        if is_stop(error):
            raise
        text = told(error, doing, part)
        give_back(error)
        fail(text)


@contextmanager
def target_phase(doing: str, target: str) -> Iterator[None]:
    """Raise `TargetFault`, with the text of what the block raises and that as its cause."""
    try:
        yield
    except TargetFault:
        raise
    except BaseException as error:
        if is_stop(error):
            raise
        text = told(error, doing, f"target {target}")
        give_back(error)
        raise TargetFault(text) from error


def told(error: BaseException, doing: str = "", part: str = "") -> str:
    """An error as one line: the part, what was raised, in whose pass, and the phase.

    Of the package's own errors the text alone: it says who did what.
    """
    names_itself = isinstance(error, UserError) or NOT_FINITE in in_one_line(error)
    own = names_itself or isinstance(error, PartError)
    what = in_one_line(error, kind=not own)
    if part:
        _, name = part.split(" ", 1)
        what = f"{part}: {what.removeprefix(part + ': ').removeprefix(name + ': ')}"
    at_work = None if part or names_itself else _model_at_work(error)
    places = [f"in a pass of {at_work}" if at_work else "", doing]
    where = "; ".join(filter(None, places))
    return f"{what} ({where})" if where else what


def give_back(error: BaseException) -> None:
    """Drop what the frames of an error hold; after one that speaks of memory, free that for whoever comes next."""
    chain = _chain(error)
    for one in chain:
        traceback.clear_frames(one.__traceback__)
    if any(re.search("memory|alloc", in_one_line(one, kind=True), re.IGNORECASE) for one in chain):
        release_memory()


def _model_at_work(error: BaseException) -> str | None:
    """The model in whose method an error was raised first, by the frames that it came through."""
    found = None
    for one in _chain(error):
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if isinstance(owner := frame.f_locals.get("self"), LanguageModel):
                found = owner.name
    return found


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error, then what it was raised from, each once."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
