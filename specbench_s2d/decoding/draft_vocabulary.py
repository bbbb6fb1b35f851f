"""The options of a draft that may propose only the N most frequent ids (FR-Spec, Zhao et al. 2025, arXiv 2502.14856).

q is renormalised over these ids and 0 elsewhere, so the token rule needs no change: an id outside them is never
proposed, and reaches the output through the target alone.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.token_ranking import small_vocabulary


def _only_with_a_size(text: str | None, info: ValidationInfo) -> str | None:
    if text is not None and info.data.get("draft_vocabulary") is None:
        raise ValueError("it says what draft_vocabulary=N is counted from; give that as well")
    return text


DraftVocabularySize = Annotated[
    int | None, Field(ge=1, description="Propose only the N most frequent ids; all by default.")
]
VocabularyFile = Annotated[
    str | None,
    AfterValidator(_only_with_a_size),
    Field(description="Text file to count ids in, in place of the ranking stored with the draft."),
]


def vocabulary_of(options: Any, draft: HasExits) -> DraftVocabulary | None:
    """The ids that a draft may propose by `options.draft_vocabulary` and `options.vocabulary_from`, None for all.

    Raises `UserError` for a size that the draft does not have, a draft without a ranking, and a file that is not text.
    """
    return small_vocabulary(draft, options.draft_vocabulary, options.vocabulary_from)


def vocabulary_hashes(options: Any, draft: HasExits) -> dict[str, str]:
    """For `data_hashes` of a drafter: the hash of its ids, by the option that chose them; empty for all ids."""
    vocabulary, text = vocabulary_of(options, draft), options.vocabulary_from
    counted = f",vocabulary_from={text}" if text else ""
    return {} if vocabulary is None else {f"draft_vocabulary={len(vocabulary)}{counted}": vocabulary.sha256}


def at_most_the_vocabulary(count: int, info: ValidationInfo) -> int:
    """Check an option that asks for `count` ids after every position; raises `ValueError` for more than N."""
    size = info.data.get("draft_vocabulary")
    if size is not None and count > size:
        raise ValueError(f"at most as many as draft_vocabulary has ids ({size})")
    return count
