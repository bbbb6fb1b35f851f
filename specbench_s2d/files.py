"""Files and folders that are written whole or not at all: beside their place first, then moved there; and whether a
folder can be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def why_no_folder(path: Path) -> str | None:
    """Why nothing can be written into a folder, whether it is there yet or not; None where it can."""
    here = path.absolute()
    try:
        there = next(one for one in (here, *here.parents) if one.exists())
    except OSError as error:  # a name that is too long, say
        return f"cannot be written ({error.strerror})"
    if not there.is_dir():
        return "is a file, and no folder" if there == here else f"{there} is a file, and no folder"
    return None if os.access(there, os.W_OK | os.X_OK) else f"cannot be written (no permission in {there})"


def is_no_file(path: Path) -> bool:
    """Whether something other than a file or a folder is there, such as a pipe, which to open may wait for ever."""
    return path.exists() and not path.is_file() and not path.is_dir()


def partial_of(path: Path) -> Path:
    """Where `replacing` writes what becomes `path`."""
    return path.with_name(path.name + ".partial")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The place beside `path` to write a file or a folder to, which becomes `path` at the end of the block.

    A file of that name is replaced, and so is an empty folder by a folder. Where the block or the move raises, `path`
    is as it was, and nothing is left beside it. Raises `OSError`, which names `path` or the file in it.
    """
    partial = partial_of(path)
    if partial.is_dir():  # of a process that was killed; a file of one is written over
        _remove(partial)
    try:
        with naming(path):
            yield partial
            if partial.is_dir() and path.is_dir():
                path.rmdir()
            os.replace(partial, path)
    finally:
        with suppress(OSError):  # what the block raised says more
            _remove(partial)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, at once or not at all; what is no plain file, such as a pipe or a link, is written
    to as it is. Raises `OSError`, which names the file."""
    encoded = content.encode() if isinstance(content, str) else content
    if path.is_symlink() or (path.exists() and not path.is_file()):
        with naming(path):
            path.write_bytes(encoded)
        return
    with replacing(path) as partial:
        partial.write_bytes(encoded)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an `OSError` of the block name the file that is written: a full disk is told of a number, or of the partial
    file."""
    try:
        yield
    except OSError as error:
        given, partial = str(error.filename or ""), str(partial_of(path))
        if not given or given.startswith(partial):
            error.filename = f"{path}{given.removeprefix(partial)}"
        raise


def cause(error: OSError) -> str:
    """Why something cannot be written or read, with the file where the error names one."""
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)
