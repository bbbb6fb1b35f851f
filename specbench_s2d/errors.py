"""Every mistake a person can make, as one family that the CLI catches once and prints as one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

RAISED = (Exception, SystemExit)
"""What a model or another package may raise in a run, `sys.exit` included; Ctrl-C is none of it."""


_MOST_SAID = 1000
"""Characters of what another package raised that are told."""


def _text(error: BaseException) -> str:
    """What an error says, as text that any file can hold; nothing where it raises when it is asked.

    Names of files that are not UTF-8 come as halves of characters, which are written as escapes.
    """
    try:
        return str(error).encode("utf-8", "backslashreplace").decode("utf-8").strip()
    except Exception:
        return ""


def first_line(error: BaseException) -> str:
    """What an error says, in one line: its first, or its type's name where it says nothing."""
    text = _text(error)
    return text.splitlines()[0] if text else type(error).__name__


def in_one_line(error: BaseException, most: int = 200) -> str:
    """All that an error says, in one line of at most `most` characters, cut after a sentence or a word; with its type's
    name where that says more."""
    text = " ".join(_text(error).split())
    said = text if isinstance(error, (OSError, ValueError)) and text else f"{type(error).__name__}: {text}"
    if len(said) <= most:
        return said.rstrip(".: ")
    cut = said[: most - 1].rpartition(". ")[0]  # whole sentences, where they say enough
    if len(cut) < most // 2:
        cut = said[: most - 1].rpartition(" ")[0] or said[: most - 1]
        return f"{cut.rstrip('.,:; ')}…"
    return cut.rstrip(".: ")


def said(error: BaseException) -> str:
    """An error as one line: its type, and the first line of its text where it has one, cut where it is long."""
    text, kind = _text(error), type(error).__name__
    return f"{kind}: {first_line(error)[:_MOST_SAID]}" if text else kind


@contextmanager
def no_panic() -> Iterator[None]:
    """Raise `RuntimeError` where a library written in Rust, as tokenizers is, panics: what it raises is no
    `Exception`."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise RuntimeError(first_line(error)) from error


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust panicked; each has a class of its own for that, made when it first happens."""
    return type(error).__name__ == "PanicException"


def near_names(name: str, known: Iterable[str]) -> str:
    """A question with the known names nearest to what was given, a space before it; nothing where none is near."""
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


class UserError(ValueError):
    """Something a person gave cannot be used; the message says what, what is allowed, and what to do."""

    exit_code = 2


class UnknownNameError(UserError):
    """A name that no registry, folder or file knows."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
        """Build the one-line message: what was given, the nearest names, then all of them."""
        names = sorted(known)
        allowed = f" Known: {', '.join(names)}." if names else ""
        return cls(f"unknown {kind} {name!r}.{near_names(name, names)}{allowed}{' ' + hint if hint else ''}")


class QuestionFileError(UserError):
    """A question file that cannot be read as questions; names the file, the line and what was expected."""


class DataError(UserError):
    """A training corpus that cannot be read as chats."""


class ModelError(UserError):
    """A checkpoint that cannot be found, read, or paired with the others of the run."""


class PromptTooLongError(UserError):
    """A prompt (and the tokens asked for) that does not fit the model's context."""


class RunFolderError(UserError):
    """A run folder that holds something else, or cannot be written."""


class UnfitMachineError(UserError):
    """`--strict`, and the machine is not fit to measure on; the message says what was found."""

    exit_code = 3


class RecordSchemaError(UserError):
    """Records of a schema version that this code does not read."""
