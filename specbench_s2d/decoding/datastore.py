"""The text that the suffix drafter may look matches up in: checked, encoded and indexed once per process."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from specbench_s2d.cgroup import available_bytes
from specbench_s2d.decoding.suffix_index import BYTES_PER_TOKEN, SuffixIndex

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HEAD_BYTES = 65_536


def check_datastore(path: Path) -> None:
    """Raise `ValueError` for a file that is not there, empty, no text, or too large for memory."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); give a text file") from error
    if not head.strip():
        raise ValueError("holds no text; give a text file in UTF-8")
    if b"\0" in head or not _is_utf8(head):
        raise ValueError("is no text in UTF-8; give a text file, such as answers or documents")
    needed, free = datastore_bytes(path), available_bytes()
    if needed > free:
        raise ValueError(
            f"{size / 1e9:.3f} GB of text take up to {needed / 1e9:.1f} GB to index, and {free / 1e9:.1f} GB are free; "
            "give a smaller file"
        )


def _is_utf8(head: bytes) -> bool:
    """Whether the beginning of a file is UTF-8; its last character may be cut."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.end == len(head) == _HEAD_BYTES or (len(head) == _HEAD_BYTES and error.start > len(head) - 4)
    return True


def datastore_bytes(path: Path) -> int:
    """The memory that the index of a text takes, with tokens of two bytes, which few texts have."""
    return path.stat().st_size * BYTES_PER_TOKEN // 2


@lru_cache(maxsize=8)
def text_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def index_of(path: Path, tokenizer: PreTrainedTokenizerBase, longest: int) -> SuffixIndex:
    """The index of a text as encoded by a tokenizer."""
    index = SuffixIndex(longest)
    index.extend(tokenizer.encode(path.read_text(encoding="utf-8"), add_special_tokens=False, verbose=False))
    return index
