"""Any text as a terminal, a log or Markdown can show it: no character acts, and no word is broken."""

from __future__ import annotations

import logging
import re
import traceback
import warnings
from typing import Any

from rich.cells import cell_len

_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ud800-\udfff"  # halves of characters
    "\ufffe\uffff]"  # what XML forbids besides
)
"""Characters that show nothing and may act on what shows them: Unicode's control and format characters, but not the
joiners of Persian and Indian letters and of emoji, and what else no terminal, log or XML file should hold."""
_MARKDOWN = re.compile(
    r"[\\`*<>|~$]|(?<!\w)_|_(?!\w)"
    r"|\](?=[(\[:])|&(?=#?\w+;)"  # of links and entities
    r"|^[-+#](?=\s)"  # of lists and headings
)
_WORD = re.compile(
    r"(?:\S{1,12} = )?(?:\S*\d(?: (?:%|[kMGT]i?B|[kMB]|ms|s|min|h|MHz|W|J)(?!\w)\S*)+"  # a number with its unit
    r"|\S+(?: %\S*)*)"  # and both with the sign that they stand behind, as in γ = 4
)
_ASCII = str.maketrans(
    {
        "×": "x", "±": "+/-", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "←": "<-", "↔": "<->", "≤": "<=",
        "≥": ">=", "≈": "~", "γ": "gamma", "ρ": "rho", "τ": "tau", "θ": "theta", "µ": "u", "μ": "u", "†": "+",
        "‡": "++", "°": "deg ", "·": "*", "•": "*", "‘": "'", "’": "'", "“": '"', "”": '"', "─": "-", "\u00a0": " ",
    }
)  # fmt: skip


def visible(text: str, keep: str = "") -> str:
    r"""The text with escapes such as `\x1b` or `\u202e` in place of characters that would act on a terminal, a log or
    an XML file and not show: control and format characters (line breaks among them), lone surrogates. `keep`: those
    of them to leave as they are, as a line break.
    """
    return _ACTING.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class VisibleRecord(logging.LogRecord):
    """A record of a log, of any library's, whose text, traceback included, is visible; its line breaks stay."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        if self.exc_info and self.exc_info[0]:  # else a formatter would write it, as it is
            self.exc_text = visible("".join(traceback.format_exception(*self.exc_info)).rstrip("\n"), keep="\n\t")

    def getMessage(self) -> str:
        """The message with its arguments."""
        return visible(super().getMessage(), keep="\n\t")


def show_logs_and_warnings() -> None:
    """From now on whatever libraries log or warn of in this process is visible, with the names in it; a warning is one
    line."""
    logging.setLogRecordFactory(VisibleRecord)
    warnings.formatwarning = _warning_line


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {visible(str(message))} ({category.__name__})\n"


def encodable(text: str, encoding: str) -> str:
    """The text as an encoding can write it: in one that is not UTF, our own symbols as ASCII (`×` is `x`, `γ` is
    `gamma`) and other characters that it lacks as escapes."""
    if not encoding.lower().startswith("utf"):
        text = text.translate(_ASCII)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def shown(text: str, encoding: str) -> str:
    """Both: visible, its line breaks kept, and encodable."""
    return encodable(visible(text, keep="\n"), encoding)


def words(text: str) -> list[str]:
    """What no line break may part: the words of a text, a number with its unit and with the name that it equals."""
    return _WORD.findall(text)


def wrap(text: str, width: int) -> list[str]:
    """The text as lines of at most `width` columns, parted between words; a longer word stands whole on a line."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in words(paragraph):
            if line and cell_len(line) + 1 + cell_len(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return lines


def cut(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis: `most` characters in all."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def markdown_text(text: str) -> str:
    """Any text as Markdown shows it, in one line."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(text, keep="\n")).replace("\n", " / ")


def code_span(text: str) -> str:
    """Any text as code within a line of Markdown."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    room = " " if "`" in text else ""
    return f"{fence}{room}{visible(text)}{room}{fence}"
