"""A text that drafts are looked up in beside the context: checked by its name, and encoded by a target's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from specbench_s2d.cgroup import available_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_datastore(path: str, bytes_per_token: int) -> None:
    """Raise `ValueError` for a file that is not there, empty, no text, or too large to index.

    `bytes_per_token`: of the index.
    """
    try:
        size = Path(path).stat().st_size
        if not Path(path).is_file() and not Path(path).is_dir():  # a folder is told by the error of reading it
            raise ValueError("is no regular file; give a text file")
        needed, free = most_tokens(path) * bytes_per_token, available_bytes()
        text = _read(path) if needed <= free else None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); give a text file") from error
    except UnicodeDecodeError as error:
        raise ValueError("is no text in UTF-8; give a text file, such as answers or documents") from error
    if text is None:
        raise ValueError(
            f"{size / 1e9:.3f} GB of text take up to {needed / 1e9:.1f} GB to index, and {free / 1e9:.1f} GB are free; "
            "give a smaller file"
        )
    if not text.strip():
        raise ValueError("holds no text; give a text file in UTF-8")
    if "\0" in text:
        raise ValueError("is no text in UTF-8; give a text file, such as answers or documents")


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8-sig")


def most_tokens(path: str) -> int:
    """Tokens of a text, estimated from above: of two bytes each, which few texts have."""
    return Path(path).stat().st_size // 2


def encode_text(path: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of a text, without special tokens."""
    ids: list[int] = tokenizer.encode(_read(path), add_special_tokens=False, verbose=False)
    return ids
