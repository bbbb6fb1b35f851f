"""Fetching a public file once: checked against its SHA-256, then put in place whole or not at all."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path

from specbench_s2d.errors import UserError

TIMEOUT_S = 30.0


def fetch(url: str, path: Path, sha256: str) -> Path:
    """Return `path`, downloading it from `url` unless it already holds the bytes that `sha256` names.

    Raises `UserError`; whatever goes wrong, no partial file is left at `path` or beside it.
    """
    if _holds(path, sha256):
        return path
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            content: bytes = response.read()
    except (OSError, HTTPException) as error:
        raise UserError(f"{url} could not be downloaded ({_reason(error)}).") from error
    if _digest(content) != sha256:
        raise UserError(
            f"{url} is not the file expected: its SHA-256 is {_digest(content)}, not {sha256}; nothing was kept."
        )
    _store(content, path)
    return path


def _holds(path: Path, sha256: str) -> bool:
    try:
        return _digest(path.read_bytes()) == sha256
    except OSError:
        return False  # absent or unreadable: fetched anew, and what stands in the way is reported then


def _store(content: bytes, path: Path) -> None:
    """Write `content` to `path` in one step that other processes see whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({_reason(error)}).") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(reason) or type(error).__name__
