"""SHA-256 of files that keys and manifests name, read once while a file's inode, size and time stay.

What a process knows it hands on to those that it starts (`known_hashes`, `learn_hashes`); hashes of large files are
kept in the cache folder, so that the next start reads none of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from specbench_s2d.files import write_whole
from specbench_s2d.resources import cache_folder

KEPT_FROM_BYTES = 2**26
"""Hashes of smaller files, read in a tenth of a second, are not kept on disk."""
_SETTLED_NS = 2 * 10**9  # a file changed so shortly before may change again within the same tick of its time


class FileState(NamedTuple):
    """What a file's hash holds for: while all of these stay, its content is taken to be the same."""

    path: str
    inode: int
    size: int
    mtime_ns: int


class Reading(NamedTuple):
    """How far files are read: of what, bytes so far, bytes in all, and the seconds since it began."""

    name: str
    done: int
    of: int
    seconds: float


_known: dict[FileState, bytes] = {}
_TOLD_AFTER_S, _TOLD_EVERY_S = 2.0, 0.1
_watchers: list[Callable[[Reading], None]] = []


@contextmanager
def watched(watch: Callable[[Reading], None]) -> Iterator[None]:
    """Tell `watch` within the block of files whose hashes take longer than 2 s: ten times a second, and at the end. Of
    blocks inside each other the inner one is told."""
    _watchers.append(watch)
    try:
        yield
    finally:
        _watchers.pop()


def file_sha256(path: str | Path) -> bytes:
    """SHA-256 of a file as it is now."""
    return files_sha256([path])[0]


def files_sha256(paths: Sequence[str | Path]) -> list[bytes]:
    """SHA-256 of each of several files as they are now; those that are read are told of as one (`watched`)."""
    states = [_state_of(Path(path).absolute()) for path in paths]
    for state in states:
        if state not in _known and (kept := _kept(state)):
            _known[state] = kept
    unread = [state for state in dict.fromkeys(states) if state not in _known]
    count = _Counter(unread)
    for state in unread:
        _known[state] = _read(state, count)
    return [_known[state] for state in states]


class _Counter:
    """Counts the bytes read of some files, and tells whoever watches."""

    def __init__(self, files: Sequence[FileState]) -> None:
        paths = [Path(state.path) for state in files]
        self._name = paths[0].name if len(paths) == 1 else paths[0].parent.name if paths else ""
        self._done, self._of = 0, sum(state.size for state in files)
        self._began_s = self._told_s = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        now_s = time.monotonic()
        due = now_s - self._told_s >= _TOLD_EVERY_S or self._done == self._of
        if _watchers and due and now_s - self._began_s >= _TOLD_AFTER_S:
            self._told_s = now_s
            _watchers[-1](Reading(self._name, self._done, self._of, now_s - self._began_s))


class _Counted:
    """A file as `hashlib.file_digest` reads it, counted."""

    def __init__(self, file: Any, count: _Counter) -> None:
        self.readable, self._file, self._count = file.readable, file, count

    def readinto(self, buffer: Any) -> int:
        read: int = self._file.readinto(buffer)
        self._count.add(read)
        return read


def known_hashes() -> dict[FileState, bytes]:
    """The hashes that this process has come to know."""
    return dict(_known)


def learn_hashes(hashes: Mapping[FileState, bytes]) -> None:
    """Take hashes of another process: a file whose path, inode, size and time are the same here is not read."""
    _known.update(hashes)


def _state_of(path: Path) -> FileState:
    now = path.stat()
    return FileState(str(path), now.st_ino, now.st_size, now.st_mtime_ns)


def _read(state: FileState, count: _Counter) -> bytes:
    path, began_ns = Path(state.path), time.time_ns()
    with path.open("rb") as file:
        digest = hashlib.file_digest(_Counted(file, count), "sha256").digest()
    settled = began_ns - state.mtime_ns > _SETTLED_NS and _state_of(path) == state
    if state.size >= KEPT_FROM_BYTES and settled:
        with suppress(OSError):  # a cache folder that cannot be written to: it is read again the next time
            file_of = _file_of(state)
            file_of.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file_of, json.dumps({**state._asdict(), "sha256": digest.hex()}))
    return digest


def _kept(state: FileState) -> bytes | None:
    """The hash in the cache folder; None for a file that changed since, or that was never read."""
    if state.size < KEPT_FROM_BYTES:
        return None
    try:
        kept = json.loads(_file_of(state).read_text(encoding="utf-8-sig"))
        digest = bytes.fromhex(kept.pop("sha256"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return digest if kept == state._asdict() and len(digest) == hashlib.sha256().digest_size else None


def _file_of(state: FileState) -> Path:
    return cache_folder() / "hashes" / f"{hashlib.sha256(os.fsencode(state.path)).hexdigest()[:32]}.json"
