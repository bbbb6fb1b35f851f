"""The one place where consoles are made: what a terminal, a pipe or a log gets of every string that is printed."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from specbench_s2d.display import encodable, show_logs_and_warnings, shown, visible, wrap

PIPE_WIDTH = 200
"""Columns of tables where there is no terminal and COLUMNS says nothing."""
_ERRORS = "specbench_s2d.encodable"


class Screen(Console):
    """A console to which every string is data: no markup, no emoji codes, no character that acts on a terminal, none
    that the encoding lacks; what does not fit the width is not cut."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, markup=False, emoji=False, highlight=False, soft_wrap=True)
        if not self.is_terminal and "width" not in settings and not os.environ.get("COLUMNS", "").isdigit():
            self.width = PIPE_WIDTH

    def render_str(self, text: str, **how: Any) -> Text:
        """As rich's, of the text as it can be shown: before it is laid out."""
        return super().render_str(shown(text, self.encoding), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's; whatever was laid out as rich's own objects is made visible here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text, self.encoding))

    def say(self, text: str, style: str = "") -> None:
        """Print one line; on a terminal as many as it needs, parted between words."""
        line = encodable(visible(text), self.encoding)
        for part in wrap(line, self.width) if self.is_terminal else [line]:
            self.print(Text(part), style=style)


def stdout() -> Screen:
    """Standard output: results."""
    return Screen()


def stderr(quiet: bool = False) -> Screen:
    """Standard error: progress, remarks and mistakes."""
    return Screen(stderr=True, quiet=quiet)


def prepare_streams() -> None:
    """Let standard output and error take any text, of other libraries too: what their encoding lacks becomes ASCII;
    their logs and warnings are visible."""
    codecs.register_error(_ERRORS, _replacement)
    show_logs_and_warnings()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii" if _wants_ascii() else stream.encoding, errors=_ERRORS)


def _wants_ascii() -> bool:
    """Whether the locale is C by name, under which Python itself writes UTF-8 all the same."""
    if "PYTHONIOENCODING" in os.environ or os.environ.get("PYTHONUTF8") == "1":
        return False
    names = (os.environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    return next(filter(None, names), "") in ("C", "POSIX")


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return encodable(error.object[error.start : error.end], error.encoding), error.end
