"""Chat corpora: read, split, encode, and pack into fixed-length sequences.

Shapes: `B` sequences, `T` positions. A packed sequence is `T + 1` ids, so that inputs and targets are its
first and last `T`; `learn` marks the ids that count in the loss.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specbench_s2d.display import cut
from specbench_s2d.errors import DataError, in_one_line
from specbench_s2d.files import remedy
from specbench_s2d.models.chat import ChatTemplate, Message

HELD_OUT_ONE_IN = 50
"""One prompt in this many is held out for validation, chosen by a hash of its first user turn, so that two answers to
the same prompt are never in different splits."""


@dataclass(frozen=True)
class Chat:
    """One conversation of a corpus, its suite, and the data set it is of (`source`, empty where a row names none)."""

    suite: str
    messages: list[Message]
    source: str = ""

    @property
    def held_out(self) -> bool:
        """Whether this chat is held out for validation; depends only on its first user turn."""
        first = next(m["content"] for m in self.messages if m["role"] == "user")
        digest = hashlib.sha256(first.encode()).digest()
        return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True)
class Encoded:
    """One conversation as ids, with the answers' ids marked."""

    suite: str
    ids: npt.NDArray[np.int32]
    answer: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Packed:
    """A packed training set: `ids_BT` and `learn_BT`, both (B, T + 1)."""

    ids_BT: npt.NDArray[np.int32]
    learn_BT: npt.NDArray[np.bool_]


def read_chats(sources: Sequence[str]) -> list[Chat]:
    """Read chats from JSON Lines files (`.jsonl`, `.jsonl.gz`), folders of them, or `hub:owner/name[:split]`.

    Raises `DataError` with the file, the line, and what was expected.
    """
    chats: list[Chat] = []
    for source in sources:
        chats += _read_hub(source.removeprefix("hub:")) if source.startswith("hub:") else _read_path(Path(source))
    if not chats:
        raise DataError(
            f"no chats in {', '.join(sources) or 'the data given'}: give JSONL files of chats, --data PATH."
        )
    return chats


def _read_path(path: Path) -> Iterator[Chat]:
    if path.is_dir():
        files = sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")])
        if not files:
            raise DataError(f"{path}: no .jsonl or .jsonl.gz file in this folder.")
        for file in files:
            yield from _read_path(file)
        return
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder; give chat JSONL by path, or hub:owner/name.")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse_chat(line, f"{path}:{number}", default_suite=path.name.split(".")[0])
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: a damaged gzip file ({error}); fetch it again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy(error, 'give another file')}.") from error


def _parse_chat(line: bytes, where: str, default_suite: str) -> Chat:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{where}: expected one JSON object in UTF-8, got {line[:40]!r} ({error}).") from error
    return _to_chat(row, where, default_suite)


def _to_chat(row: Any, where: str, default_suite: str) -> Chat:
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not all(_is_message(m) for m in messages) or not _asks_and_answers(messages):
        raise DataError(
            f'{where}: expected {{"messages": [{{"role": "user"|"assistant", "content": text}}, …]}} '
            f"with a user turn and an answer to it, got: {cut(str(row), 80)}"
        )
    suite = row.get("suite") or default_suite
    turns = [Message(role=m["role"], content=m["content"]) for m in messages]
    return Chat(str(suite), turns, str(row.get("source") or ""))


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant"):
        return False
    return isinstance(message.get("content"), str)


def _asks_and_answers(messages: list[dict[str, str]]) -> bool:
    spoken = [m["role"] for m in messages if m["role"] != "system"]
    return len(spoken) >= 2 and spoken[0] == "user" and "assistant" in spoken


def _read_hub(name: str) -> list[Chat]:
    import datasets

    repo, _, split = name.partition(":")
    try:
        rows = datasets.load_dataset(repo, split=split or "train")
    except Exception as error:  # the hub client raises many unrelated types
        raise DataError(f"hub:{name}: the data set could not be loaded ({in_one_line(error)}).") from error
    return [_to_chat(row, f"hub:{name} row {i}", repo.split("/")[-1]) for i, row in enumerate(rows)]


def encode_chats(chats: list[Chat], template: ChatTemplate, batch: int = 4096) -> list[Encoded]:
    """Encode every chat segment by segment, so that no token spans a prompt and its answer."""
    encoded: list[Encoded] = []
    for start in range(0, len(chats), batch):
        part = chats[start : start + batch]
        pieces = [template.segments(chat.messages) for chat in part]
        begun = [template.split_bos(text) for chat_pieces in pieces for text, _ in chat_pieces]
        flat = [rest for _, rest in begun]
        # verbose=False: no warning about a chat longer than the context, as packing cuts it into rows.
        rest_ids = template.tokenizer(flat, add_special_tokens=False, verbose=False)["input_ids"]
        ids = iter([bos + run for (bos, _), run in zip(begun, rest_ids, strict=True)])
        for chat, chat_pieces in zip(part, pieces, strict=True):
            runs = [(next(ids), is_answer) for _, is_answer in chat_pieces]
            encoded.append(
                Encoded(
                    chat.suite,
                    np.concatenate([np.asarray(run, dtype=np.int32) for run, _ in runs]),
                    np.concatenate([np.full(len(run), is_answer) for run, is_answer in runs]),
                )
            )
    return encoded


def answer_counts(encoded: list[Encoded], vocabulary: int) -> list[int]:
    """How often each id (0 to `vocabulary` - 1) occurs in the answers: what a draft proposes, whatever the loss is
    over."""
    counts = np.zeros(vocabulary, dtype=np.int64)
    for chat in encoded:
        counts += np.bincount(chat.ids[chat.answer], minlength=vocabulary)
    return [int(count) for count in counts]


def pack(encoded: list[Encoded], length: int, answers_only: bool, seed: int) -> Packed:
    """Shuffle the chats and concatenate them into rows of `length + 1` ids; the incomplete last row is dropped."""
    if not encoded:
        raise DataError("every chat given is held out for validation; give more chats.")
    order = np.random.default_rng(seed).permutation(len(encoded))
    ids = np.concatenate([encoded[i].ids for i in order])
    learn = np.concatenate([encoded[i].answer for i in order]) if answers_only else np.ones(len(ids), dtype=bool)
    rows = len(ids) // (length + 1)
    if rows == 0:
        raise DataError(f"the data holds {len(ids)} tokens, fewer than one sequence of {length + 1}; lower --length.")
    used = rows * (length + 1)
    return Packed(ids[:used].reshape(rows, length + 1), learn[:used].reshape(rows, length + 1))


def batch_rows(rows: int, batch: int, step: int, seed: int) -> npt.NDArray[np.int64]:
    """Row numbers of one optimiser step; they depend only on the step, so that a resumed run sees the same data."""
    wanted = np.arange(step * batch, (step + 1) * batch)
    epochs, places = wanted // rows, wanted % rows
    orders = {e: np.random.default_rng((seed, int(e))).permutation(rows) for e in np.unique(epochs)}
    return np.array([orders[e][p] for e, p in zip(epochs, places, strict=True)], dtype=np.int64)


def held_out_by_suite(encoded: list[Encoded], per_suite: int, length: int) -> dict[str, list[Encoded]]:
    """The first `per_suite` held-out chats of each suite, cut to `length` ids, that still hold answer tokens."""
    chosen: dict[str, list[Encoded]] = {}
    for chat in encoded:
        cut = Encoded(chat.suite, chat.ids[: length + 1], chat.answer[: length + 1])
        bucket = chosen.setdefault(chat.suite, [])
        if len(bucket) < per_suite and cut.answer.any():
            bucket.append(cut)
    return {suite: chats for suite, chats in sorted(chosen.items()) if chats}
