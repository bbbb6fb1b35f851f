"""What two models must share to work together: the meaning of their token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from specbench_s2d.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench_s2d.models.heads.shape import HeadShape


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
    def head_shape(self) -> HeadShape | None: ...


def check_pair(target: HasVocabulary, draft: HasVocabulary) -> None:
    """A draft proposes ids, so both must mean the same by them; raises `ModelError` naming both otherwise.

    A draft head has no tokenizer of its own: it must read states as wide as the target's.
    """
    advice = "pick a draft of the target's family"
    if draft.head_shape is not None and draft.head_shape.width != target.width:
        raise ModelError(
            f"{draft.name} is a draft head on states of width {draft.head_shape.width:,}, and {target.name} has states "
            f"of width {target.width:,}; give a head that was trained for this target."
        )
    if target.vocabulary != draft.vocabulary:
        raise ModelError(
            f"{target.name} has a vocabulary of {target.vocabulary:,} ids and draft {draft.name} one of "
            f"{draft.vocabulary:,}: token ids must mean the same in both; {advice}."
        )
    if draft.head_shape is None and target.tokenizer.get_vocab() != draft.tokenizer.get_vocab():
        raise ModelError(
            f"{target.name} and draft {draft.name} number their {target.vocabulary:,} tokens differently: token ids "
            f"must mean the same in both; {advice}."
        )
