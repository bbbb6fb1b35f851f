"""What two models must share to work together: the meaning of their token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from specbench_s2d.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class HasVocabulary(Protocol):
    """Whatever has a name, a tokenizer and a number of ids: a loaded model, or one that is resolved."""

    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...


def check_pair(target: HasVocabulary, draft: HasVocabulary) -> None:
    """A draft proposes ids, so both must mean the same by them; raises `ModelError` naming both otherwise."""
    advice = "pick a draft of the target's family"
    if target.vocabulary != draft.vocabulary:
        raise ModelError(
            f"{target.name} has a vocabulary of {target.vocabulary:,} ids and draft {draft.name} one of "
            f"{draft.vocabulary:,}: token ids must mean the same in both; {advice}."
        )
    if target.tokenizer.get_vocab() != draft.tokenizer.get_vocab():
        raise ModelError(
            f"{target.name} and draft {draft.name} number their {target.vocabulary:,} tokens differently: token ids "
            f"must mean the same in both; {advice}."
        )
