"""Every mistake a person can make, as one family that the CLI catches once and prints as one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from specbench_s2d.display import visible
from specbench_s2d.spelling import meant, near_names

_OURS = "specbench_s2d."
_MOST_SAID, _MOST_WHOLE = 1000, 200
"""Characters that are told of what another package raised: of its first line, and of all its lines."""


def is_stop(error: BaseException) -> bool:
    """Whether an exception ends the program, and is no fault of a cell: Ctrl-C, and this package's own signals.

    Anything else that a model or another package raises is a fault, `sys.exit` and classes of its own that are no
    `Exception` included.
    """
    own = type(error).__module__.startswith(_OURS) and not isinstance(error, Exception)
    return own or isinstance(error, KeyboardInterrupt | GeneratorExit)


def _text(error: BaseException) -> str:
    """What an error says, as text that any file can hold; nothing where it raises when it is asked.

    Names of files that are not UTF-8 come as halves of characters, which are written as escapes.
    """
    try:
        return str(error).encode("utf-8", "backslashreplace").decode("utf-8").strip()
    except Exception:
        return ""


def in_one_line(error: BaseException, most: int | None = None, kind: bool | None = None, whole: bool = False) -> str:
    """What an error says, in one line of at most `most` characters: its first line (1,000 characters by default),
    or, with `whole`, all of them (200).

    Its type's name stands before the text where `kind` is True; where it is None, before a text that says little
    without it: of all errors but those of files and values, and this package's own. An error without text is its type.
    """
    text, name = _text(error), type(error).__name__
    if not text:
        return name
    said = " ".join(text.split()) if whole else text.splitlines()[0]
    if kind is None:
        kind = not (isinstance(error, OSError | ValueError) or type(error).__module__.startswith(_OURS))
    said = f"{name}: {said}" if kind else said
    return _cut(said.rstrip(".: ") if whole else said, most or (_MOST_WHOLE if whole else _MOST_SAID))


def _cut(text: str, most: int) -> str:
    """A text of at most `most` characters: cut after a sentence or a word, where that says enough."""
    if len(text) <= most:
        return text
    sentences = text[: most - 1].rpartition(". ")[0]
    if len(sentences) >= most // 2:
        return sentences.rstrip(".: ")
    words = text[: most - 1].rpartition(" ")[0]
    cut = words if len(words) >= most // 2 else text[: most - 1]
    return f"{cut.rstrip('.,:; ')}…"


@contextmanager
def no_panic() -> Iterator[None]:
    """Raise `RuntimeError` where a library written in Rust, as tokenizers is, panics: what it raises is no
    `Exception`."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise RuntimeError(in_one_line(error, kind=False)) from error


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust panicked; each has a class of its own for that, made when it first happens."""
    return type(error).__name__ == "PanicException"


class UserError(ValueError):
    """Something a person gave cannot be used; the message says what, what is allowed, and what to do, in one line
    whatever was given."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


class UnknownNameError(UserError):
    """A name that no registry, folder or file knows."""

    @classmethod
    def of(
        cls, kind: str, name: str, known: Iterable[str], hint: str = "", others: Mapping[str, str] | None = None
    ) -> UnknownNameError:
        """Build the one-line message: what was given, the nearest names, then all of them. `others`: other names that
        people use, each with the known one."""
        names = sorted(known)
        allowed = f" Known: {', '.join(names)}." if names else ""
        return cls(f"unknown {kind} {name!r}.{near_names(name, names, others)}{allowed}{' ' + hint if hint else ''}")


def find_name(
    kind: str, name: str, known: Iterable[str], hint: str = "", others: Mapping[str, str] | None = None
) -> str:
    """The known name that is meant, as `spelling.meant` says; raises `UnknownNameError` where it is none or several."""
    names = list(known)
    if (found := meant(name, names, others)) is None:
        raise UnknownNameError.of(kind, name, names, hint, others)
    return found


@contextmanager
def reworded(rewrite: Callable[[str], str]) -> Iterator[None]:
    """Rewrite the message of a `UserError` that the block raises, for whoever reads it."""
    try:
        yield
    except UserError as error:
        error.args = (rewrite(str(error)), *error.args[1:])
        raise


_VALUE = r"cpu|auto|cuda(?::\w+)?|eager|graphs|native|cuda-graphs|b?float\d+|[A-Z]{2,}|[^\s:,;.]+(?=: )"
_FLAG = re.compile(rf"(?<!\w)--([a-z][a-z-]*)(?: ({_VALUE})(?![\w/-]))?")


def as_parameters(text: str) -> str:
    """A message with Python's parameters in place of the command line's flags: `dtype='bfloat16'` for `--dtype
    bfloat16`, `max_new_tokens` for `--max-new-tokens`. Models are given loaded there."""

    def parameter(found: re.Match[str]) -> str:
        name, value = found[1].replace("-", "_"), found[2]
        if value is None:
            return name
        return f"{name}=load_model({value!r})" if name in ("draft", "target") else f"{name}={value!r}"

    return _FLAG.sub(parameter, text)


def check_flags(**given: object) -> None:
    """Raise `UserError` for a parameter that is to be True or False, and is neither: a text such as `no` would count as
    True."""
    for name, value in given.items():
        if value not in (True, False):
            raise UserError(f"{name}={value!r}: give True or False.")


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
