"""The ids of a model, and what two models must share to work together: the meaning of these ids.

The head of a checkpoint may have more rows than its tokenizer names tokens: Qwen2.5 has 151,936 rows up to 3B and
152,064 from 7B on, for one tokenizer of 151,665. Rows beyond the last named id are padding: no text was ever trained
into them, and models leave their logits out, so that no decoder emits or drafts them and models of one tokenizer have
one vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from specbench_s2d.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench_s2d.models.heads.shape import HeadShape


_MOST_PADDING = 4096
"""Rows that pad a head at most; 2,385 is the most known to us (DeepSeek-LLM: 102,400 rows)."""


class HasVocabulary(Protocol):
    """Whatever has a name, a tokenizer and a number of ids: a loaded model, or one that is resolved."""

    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def width(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def head_shape(self) -> HeadShape | None: ...


def named_ids(tokenizer: PreTrainedTokenizerBase, rows: int) -> int:
    """How many of a head's `rows` are ids: those up to the last that the tokenizer names, added tokens included."""
    if len(tokenizer) >= rows:
        return rows
    return min(rows, 1 + max(tokenizer.get_vocab().values()))


def check_pair(target: HasVocabulary, draft: HasVocabulary) -> None:
    """A draft proposes ids, so both must mean the same by them; raises `ModelError` naming both otherwise.

    A draft head has no tokenizer of its own: it must read states as wide as the target's, and know as many ids; with LM
    heads of its own, it may have rows of padding beyond them.
    """
    advice = "pick a draft of the target's family"
    if draft.head_shape is not None and draft.head_shape.width != target.width:
        raise ModelError(
            f"{draft.name} is a draft head on states of width {draft.head_shape.width:,}, and {target.name} has states "
            f"of width {target.width:,}; give a head that was trained for this target."
        )
    if draft.head_shape is not None:
        draft.head_shape.check_target(draft.name, target.name, target.depth)
    fits = target.vocabulary == draft.vocabulary if draft.head_shape is None else target.vocabulary <= draft.vocabulary
    own = draft.head_shape.vocabulary if draft.head_shape else None
    if own is not None and own - target.vocabulary > _MOST_PADDING:
        fits = False
    if not fits:
        raise ModelError(
            f"{target.name} has a vocabulary of {target.vocabulary:,} ids and draft {draft.name} one of "
            f"{draft.vocabulary:,}: token ids must mean the same in both; {advice}."
        )
    if draft.head_shape is None and _tokens(target) != _tokens(draft):
        raise ModelError(
            f"{target.name} and draft {draft.name} number their {target.vocabulary:,} tokens differently: token ids "
            f"must mean the same in both; {advice}."
        )


def _tokens(model: HasVocabulary) -> dict[str, int]:
    """The id of each token that the model gives a logit of; a tokenizer may name more."""
    return {token: index for token, index in model.tokenizer.get_vocab().items() if index < model.vocabulary}
