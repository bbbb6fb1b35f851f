"""SHA-256 of files that keys and manifests name, read once while a file's inode, size and time stay.

What a process knows it hands on to those that it starts (`known_hashes`, `learn_hashes`); hashes of large files are
kept in the cache folder, so that the next start reads none of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

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


_known: dict[FileState, bytes] = {}


def file_sha256(path: str | Path) -> bytes:
    """SHA-256 of a file as it is now."""
    state = _state_of(Path(path).absolute())
    if state not in _known:
        _known[state] = _kept(state) or _read(state)
    return _known[state]


def known_hashes() -> dict[FileState, bytes]:
    """The hashes that this process has come to know."""
    return dict(_known)


def learn_hashes(hashes: Mapping[FileState, bytes]) -> None:
    """Take hashes of another process: a file whose path, inode, size and time are the same here is not read."""
    _known.update(hashes)


def _state_of(path: Path) -> FileState:
    now = path.stat()
    return FileState(str(path), now.st_ino, now.st_size, now.st_mtime_ns)


def _read(state: FileState) -> bytes:
    path, began_ns = Path(state.path), time.time_ns()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
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
