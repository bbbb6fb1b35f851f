"""SHA-256 of files that keys and manifests name."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


def file_sha256(path: str | Path) -> bytes:
    """SHA-256 of a file, read once in a process while its size and time stay."""
    state = Path(path).stat()
    return _read(Path(path), state.st_size, state.st_mtime_ns)


@cache
def _read(path: Path, size: int, mtime_ns: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
