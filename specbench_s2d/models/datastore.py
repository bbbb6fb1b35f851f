"""A text that drafts are looked up in beside the context: checked by its name, and encoded by a target's tokenizer."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from specbench_s2d.cgroup import available_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HEAD_BYTES = 65_536
_LONGEST_CHARACTER = 4  # bytes of UTF-8


def check_datastore(path: str, bytes_per_token: int) -> None:
    """Raise `ValueError` for a file that is not there, empty, no text, or too large to index.

    `bytes_per_token`: of the index.
    """
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); give a text file") from error
    if not head.strip():
        raise ValueError("holds no text; give a text file in UTF-8")
    if b"\0" in head or not _is_utf8(head):
        raise ValueError("is no text in UTF-8; give a text file, such as answers or documents")
    needed, free = most_tokens(path) * bytes_per_token, available_bytes()
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
        return len(head) == _HEAD_BYTES and error.start > _HEAD_BYTES - _LONGEST_CHARACTER
    return True


def most_tokens(path: str) -> int:
    """Tokens of a text, estimated from above: of two bytes each, which few texts have."""
    return Path(path).stat().st_size // 2


@lru_cache(maxsize=8)
def text_hash(path: str) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def encode_text(path: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of a text, without special tokens."""
    ids: list[int] = tokenizer.encode(Path(path).read_text(encoding="utf-8"), add_special_tokens=False, verbose=False)
    return ids
