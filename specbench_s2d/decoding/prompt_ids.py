"""Prompts as people hand them to `generate`: ids, tensors, and the dicts that tokenizers return, as a list of ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import index
from typing import Any

import torch

from specbench_s2d.errors import UserError, in_one_line

PromptIds = Sequence[int] | torch.Tensor | Mapping[str, Any]
"""Ids of one prompt: a list, a tensor (T,) or (1, T), or a tokenizer's dict of them under `input_ids`."""
_WRITE = (
    "for a chat, target.tokenizer.apply_chat_template([{'role': 'user', 'content': TEXT}], add_generation_prompt=True)"
    "; for a text to continue, target.tokenizer.encode(TEXT)"
)


def as_ids(prompt: PromptIds, vocabulary: int) -> list[int]:
    """One prompt as ids below `vocabulary`; raises `UserError` that says what to write for anything else."""
    given: Any = prompt
    if isinstance(given, Mapping):
        given = _input_ids(given)
    given = _listed(given)
    if isinstance(given, Sequence) and len(given) == 1 and isinstance(first := _listed(given[0]), list | tuple):
        given = first
    if isinstance(given, str | bytes | bytearray | memoryview) or _is_messages(given):
        what = "messages" if _is_messages(given) else "a text"
        raise UserError(f"generate takes token ids, got {what}: write {_WRITE}.")
    if not isinstance(given, Sequence):
        raise UserError(f"generate takes token ids, got {type(prompt).__name__}: write {_WRITE}.")
    if given and isinstance(_listed(given[0]), list | tuple):
        raise UserError(f"generate takes one prompt, got a batch of {len(given)}: call it once for each.")
    return [_as_id(token, place, vocabulary) for place, token in enumerate(given)]


def _listed(given: Any) -> Any:
    """A tensor or an array as a list, of no dimension as a number; anything else as it is."""
    if not hasattr(given, "tolist") or isinstance(given, memoryview):
        return given
    try:
        return (given.to_dense() if isinstance(given, torch.Tensor) else given).tolist()
    except (RuntimeError, NotImplementedError) as error:  # a tensor without data
        raise UserError(f"generate takes token ids, got a tensor that holds none ({in_one_line(error)}).") from error


def _as_id(token: Any, place: int, vocabulary: int) -> int:
    number = None
    if not isinstance(token, bool):
        with suppress(TypeError, ValueError):
            number = index(_listed(token))
    if number is None or not 0 <= number < vocabulary:
        raise UserError(
            f"generate takes token ids from 0 to {vocabulary - 1:,}, got {str(token)[:40]!r} at position {place}."
        )
    return number


def _input_ids(given: Mapping[str, Any]) -> Any:
    """What a tokenizer's dict holds; padding is refused, for its ids would be read as text."""
    if "input_ids" not in given:
        names = ", ".join(map(str, given)) or "nothing"
        raise UserError(f"generate takes token ids, got a dict without 'input_ids' (it holds {names}): write {_WRITE}.")
    mask = _listed(given.get("attention_mask"))
    rows = [_listed(row) for row in mask] if isinstance(mask, list | tuple) else [mask]
    row = rows[0] if rows and isinstance(rows[0], list | tuple) else rows
    if mask is not None and not all(row):
        raise UserError("generate takes one prompt without padding: the attention_mask has zeros; tokenize without it.")
    return given["input_ids"]


def _is_messages(given: Any) -> bool:
    return isinstance(given, Sequence) and len(given) > 0 and isinstance(given[0], Mapping)
