"""Prompts as people hand them to `generate`: ids, tensors, and the dicts that tokenizers return, as a list of ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

import torch

from specbench_s2d.errors import UserError

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
    if hasattr(given, "tolist"):  # a tensor or an array
        given = given.tolist()
    if isinstance(given, Sequence) and len(given) == 1 and isinstance(given[0], list | tuple):
        given = given[0]
    if isinstance(given, str) or _is_messages(given):
        what = "a text" if isinstance(given, str) else "messages"
        raise UserError(f"generate takes token ids, got {what}: write {_WRITE}.")
    if not isinstance(given, Sequence):
        raise UserError(f"generate takes token ids, got {type(prompt).__name__}: write {_WRITE}.")
    if given and isinstance(given[0], list | tuple):
        raise UserError(f"generate takes one prompt, got a batch of {len(given)}: call it once for each.")
    for place, token in enumerate(given):
        if not hasattr(token, "__index__") or isinstance(token, bool) or not 0 <= token < vocabulary:
            raise UserError(
                f"generate takes token ids from 0 to {vocabulary - 1:,}, got {str(token)[:40]!r} at position {place}."
            )
    return [index(token) for token in given]


def _input_ids(given: Mapping[str, Any]) -> Any:
    """What a tokenizer's dict holds; padding is refused, for its ids would be read as text."""
    if "input_ids" not in given:
        names = ", ".join(map(str, given)) or "nothing"
        raise UserError(f"generate takes token ids, got a dict without 'input_ids' (it holds {names}): write {_WRITE}.")
    mask: Any = given.get("attention_mask")
    if hasattr(mask, "tolist"):
        mask = mask.tolist()
    row = mask[0] if mask and isinstance(mask[0], list | tuple) else mask
    if row is not None and not all(row):
        raise UserError("generate takes one prompt without padding: the attention_mask has zeros; tokenize without it.")
    return given["input_ids"]


def _is_messages(given: Any) -> bool:
    return isinstance(given, Sequence) and len(given) > 0 and isinstance(given[0], Mapping)
