"""How often each token occurs in a text: what the small vocabulary of a draft is chosen by.

`train` counts its data and stores the counts in the model's folder; a text file can be counted instead.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from specbench_s2d.errors import ModelError, UserError, in_one_line
from specbench_s2d.files import remedy, write_whole
from specbench_s2d.models.draft_vocabulary import DraftVocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench_s2d.models.exits import HasExits

RANKING_FILE = "token_ranking.json"
_PIECE_CHARACTERS = 2**20
_MOST_BYTES = 2 * 10**9
"""Of a text that is counted: some minutes of work, and more than any ranking needs."""


class Ranking(Protocol):
    """The ids of a vocabulary, the most frequent first."""

    def ids(self, vocabulary: int) -> list[int]:
        """All `vocabulary` ids; raises `ModelError` for a ranking of another number."""
        ...


def ranked(counts: Sequence[int]) -> list[int]:
    """Ids by falling count, ties by id; those never seen come last."""
    return sorted(range(len(counts)), key=lambda token: -counts[token])


@dataclass(frozen=True)
class StoredRanking:
    """The counts that a model's folder holds, read when asked for. `name`: of the model, for error messages."""

    file: Path
    name: str

    def ids(self, vocabulary: int) -> list[int]:
        state = self.file.stat()
        return list(_stored_ids(self.file, self.name, vocabulary, state.st_mtime_ns))


class RankingById:
    """The order of the ids themselves, for random weights, whose output means nothing."""

    def ids(self, vocabulary: int) -> list[int]:
        return list(range(vocabulary))


def stored_ranking(folder: Path, name: str) -> StoredRanking | None:
    """The ranking in a model's folder, None where there is none."""
    file = folder / RANKING_FILE
    return StoredRanking(file, name) if file.is_file() else None


@lru_cache(maxsize=16)
def _stored_ids(file: Path, name: str, vocabulary: int, mtime_ns: int) -> tuple[int, ...]:
    try:
        counts = json.loads(file.read_text(encoding="utf-8-sig"))["counts"]
        whole = all(isinstance(count, int) and count >= 0 for count in counts)
        if len(counts) < vocabulary or not whole or any(counts[vocabulary:]):  # rows of padding may be counted, as 0
            raise ValueError(f"counts must be {vocabulary} whole numbers, one for each id")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{name}: {RANKING_FILE} is no count of its tokens ({in_one_line(error, whole=True)}); make it again "
            "with `specbench-s2d train ranking --draft DIR --data FILE`."
        ) from error
    return tuple(ranked(counts[:vocabulary]))


def write_ranking(folder: Path, counts: Sequence[int], data: dict[str, Any]) -> Path:
    """Store the counts of answers' tokens, by id, in a model's folder, with the `data` that they were counted in."""
    file = folder / RANKING_FILE
    content = {"counted": "tokens of the training split's answers", "data": data, "counts": list(counts)}
    write_whole(file, json.dumps(content, separators=(",", ":")) + "\n")
    return file


def small_vocabulary(draft: HasExits, size: int | None, text: str | None) -> DraftVocabulary | None:
    """The `size` most frequent ids of a draft, by its stored ranking or by a `text` file; None for no size.

    Raises `UserError` for a size that the draft's vocabulary does not have, for a draft without a ranking, and for a
    file that is not text.
    """
    if size is None:
        return None
    if not 1 <= size <= draft.vocabulary:
        raise UserError(
            f"draft_vocabulary={size}: draft {draft.name} has a vocabulary of {draft.vocabulary:,} ids; "
            f"give 1 to {draft.vocabulary}."
        )
    if text is not None:
        path = Path(text)
        order: Sequence[int] = _counted_ids(path, _state(path), draft.tokenizer, draft.vocabulary)
    elif draft.ranking is not None:
        order = draft.ranking.ids(draft.vocabulary)
    else:
        raise UserError(
            f"draft_vocabulary={size}: draft {draft.name} holds no {RANKING_FILE}; make one with `specbench-s2d train "
            "ranking --draft DIR --data FILE`, or give vocabulary_from=FILE, a text to count tokens in."
        )
    return DraftVocabulary.of(order[:size], draft.vocabulary)


def _state(path: Path) -> tuple[int, int]:
    """Size and time of a file; raises `UserError` where there is none."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file" if path.exists() else "no such file"
        raise UserError(f"vocabulary_from={path}: {what}; give a text file to count tokens in.")
    state = path.stat()
    if state.st_size > _MOST_BYTES:
        raise UserError(
            f"vocabulary_from={path}: {state.st_size / 1e9:.1f} GB; give a text of at most {_MOST_BYTES / 1e9:.0f} GB."
        )
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=8)
def _counted_ids(
    path: Path, state: tuple[int, int], tokenizer: PreTrainedTokenizerBase, vocabulary: int
) -> tuple[int, ...]:
    """All ids by how often they occur in a text; counted once while its size and time stay."""
    counts: Counter[int] = Counter()
    try:
        for piece in _pieces(path):
            counts.update(tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"])
    except UnicodeDecodeError as error:
        raise UserError(f"vocabulary_from={path}: a binary file (not UTF-8 text); give a text file.") from error
    except OSError as error:
        advice = remedy(error, "give another file")
        raise UserError(f"vocabulary_from={path}: cannot be read ({error.strerror}); {advice}.") from error
    if not counts:
        raise UserError(f"vocabulary_from={path}: no text in this file; give one with text to count tokens in.")
    return tuple(ranked([counts[token] for token in range(vocabulary)]))


def _pieces(path: Path) -> Iterable[str]:
    """The lines of a text with anything in them, about a million characters at a time."""

    def refuse_binary(lines: list[str]) -> Iterator[str]:
        text = "".join(lines)
        if "\0" in text:
            raise UserError(f"vocabulary_from={path}: a binary file (with NUL characters); give a text file.")
        if text.strip():
            yield text

    with path.open(encoding="utf-8-sig") as file:
        while lines := file.readlines(_PIECE_CHARACTERS):
            yield from refuse_binary(lines)
