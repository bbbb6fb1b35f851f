"""Files and folders that are written whole or not at all: beside their place first, then moved there; whether a folder
can be; and what to do where the system refuses."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room in your quota of this disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EACCES: "give yourself permission for it",
    errno.EPERM: "give yourself permission for it",
    errno.EROFS: "mount its disk for writing",
    errno.ELOOP: "remove the links, which lead round in a circle",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "move the file that stands in place of a folder",
    errno.EISDIR: "move the folder that stands in place of the file",
    errno.EEXIST: "move what has that name already",
    errno.ENOTEMPTY: "move what has that name already",
    errno.ENOENT: "put back the file or folder, which is not there",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files (ulimit -n)",
    errno.EBUSY: "end the program that uses it",
    errno.ETXTBSY: "end the program that uses it",
    errno.EIO: "look at its disk, which failed",
    errno.ESTALE: "mount its disk anew",
    errno.ENOMEM: "free memory",
}
_OF_RUST = re.compile(r"\(os error (\d+)\)")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def remedy(error: BaseException, otherwise: str) -> str:
    """What to do about a file that the system refuses to write or to read, by the error's number, which libraries
    written in Rust tell in words; `otherwise` where it has none that is known."""
    number = getattr(error, "errno", None)
    if number is None and (found := _OF_RUST.search(str(error))):
        number = int(found[1])
    return _REMEDIES.get(number or 0, otherwise)


def why_no_folder(path: Path) -> str | None:
    """Why nothing can be written into a folder, whether it is there yet or not; None where it can, which is tried in
    the nearest folder that is there: root has permission for folders such as /proc that take nothing all the same."""
    here = path.absolute()
    try:
        there = next(one for one in (here, *here.parents) if _is_there(one))
    except OSError as error:  # a name that is too long, say
        return f"cannot be written ({error.strerror})"
    if not there.is_dir():
        return f"{'' if there == here else f'{there} '}is {why_no_file(there) or 'a file'}, and no folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"cannot be written (no permission in {there})"
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".specbench-", dir=there))
    except OSError as error:
        return f"cannot be written (no folder can be made in {there}: {error.strerror})"
    return None


def why_no_file(path: Path) -> str | None:
    """Why what lies there cannot be read as a file; None for a regular file, and where there is nothing.

    Opening a pipe or a device would wait for ever.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"a link to {os.readlink(path)}, which is not there" if path.is_symlink() else None
    except OSError as error:
        round_in_circles = error.errno == errno.ELOOP
        return "a link that leads round in a circle" if round_in_circles else f"not to be read ({error.strerror})"
    if stat.S_ISREG(mode):
        return None if os.access(path, os.R_OK) else "not to be read (no permission)"
    return _KINDS.get(stat.S_IFMT(mode), "no regular file")


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
        if error.errno is not None and (not given or given.startswith(partial)):  # else its text would be lost
            error.filename = f"{path}{given.removeprefix(partial)}"
        raise


def cause(error: OSError) -> str:
    """Why something cannot be written or read, with the file where the error names one."""
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what


def _is_there(path: Path) -> bool:
    """Whether anything has that name, a link that leads nowhere too; raises `OSError` for what no name can be."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)
