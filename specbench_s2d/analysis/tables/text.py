"""A table of text, for a terminal, as Markdown and as LaTeX; and how numbers are written in one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench_s2d.analysis.tables.naming import LOSSY_MARK, PROJECTED_MARK

NOTHING = "–"
_LEAST_WIDTH = 9  # of the first column of a table whose others keep their width
_MARKDOWN = re.compile(r"[\\`*<>|]|(?<!\w)_|_(?!\w)")
_BETWEEN_DASHES = "\u200b"  # two hyphens would be printed as one dash
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", LOSSY_MARK: r"$^\dagger$",
    PROJECTED_MARK: r"$^\ddagger$", "×": r"$\times$", "[": "{[}", "]": "{]}", _BETWEEN_DASHES: "{}",
    "τ": r"$\tau$", "γ": r"$\gamma$", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def absent(value: Any) -> bool:
    """Whether a value is missing, be it None, NaN or pandas' NA."""
    return bool(pd.isna(value))


def number(value: Any, digits: str = ".2f") -> str:
    """A value, or a dash where it is missing."""
    return NOTHING if absent(value) else f"{value:{digits}}"


def interval(low: Any, high: Any, digits: str = ".2f") -> str:
    """Both ends of an interval, or a dash where they are missing."""
    return NOTHING if absent(low) else f"{low:{digits}}–{high:{digits}}"


def stands_on(questions: Any) -> str:
    """The number of questions that an interval stands on, or that are too few for one."""
    return f"n = {number(questions, '.0f')}"


def with_interval(value: Any, low: Any, high: Any, questions: Any, digits: str = ".2f") -> str:
    """A value with its interval and the questions that it stands on; of a value without one, these alone, if any."""
    if absent(value) or absent(questions):
        return number(value, digits)
    ends = "" if absent(low) else f"{interval(low, high, digits)}, "
    return f"{value:{digits}} [{ends}{stands_on(questions)}]"


@dataclass(frozen=True)
class Entry:
    """A cell that stands out: `bold` everywhere, or in a `style` of its own on a terminal."""

    text: str
    bold: bool = False
    style: str = ""


@dataclass(frozen=True)
class TextTable:
    """Headings and rows of text; a line break within a cell sets one value above another.

    The first `left` columns hold words, the others values. `keep`: columns of values keep their width on a narrow
    terminal, where the words wrap. `caption`: what to know of the values.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str | Entry]]
    title: str = ""
    caption: str = ""
    left: int = 1
    keep: bool = False

    def terminal(self) -> RenderableType:
        """The table as rich prints it, its title above and its caption below."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for place, heading in enumerate(self.headings):
            if place < self.left:
                table.add_column(Text(heading), overflow="fold", min_width=_LEAST_WIDTH if self.keep else None)
            else:
                table.add_column(Text(heading), justify="right", overflow="fold", no_wrap=self.keep)
        for row in self._entries():
            styles = [entry.style or ("bold" if entry.bold else "") for entry in row]
            # a row for each line, so that words which wrap leave the values below each other at their sides
            for line in zip_longest(*(entry.text.split("\n") for entry in row), fillvalue=""):
                table.add_row(*(Text(text, style=style) for text, style in zip(line, styles, strict=True)))
        above = [Text(self.title, style="bold")] if self.title else []
        return Group(*above, table, *([Text(self.caption, style="dim")] if self.caption else []))

    def markdown(self) -> str:
        """The table alone; one value above another is `one / other`."""
        alignment = ["---"] * self.left + ["---:"] * (len(self.headings) - self.left)
        lines = [map(markdown_text, self.headings), alignment]
        lines += [[_wrapped(entry, "**{}**", markdown_text) for entry in row] for row in self._entries()]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def markdown_section(self) -> str:
        """The table below its title, its caption below it."""
        return "\n\n".join(filter(None, (f"## {self.title}", self.markdown(), self.caption)))

    def latex(self, label: str) -> str:
        """A `table*` with its caption and `label`, to which the text refers; needs the package booktabs."""
        rows = [[_latex_cell(entry) for entry in row] for row in self._entries()]
        head, *body = (" & ".join(cells) + r" \\" for cells in (map(latex_text, self.headings), *rows))
        return "\n".join(
            [
                r"\begin{table*}", r"\centering\small",
                rf"\caption{{{latex_text(self.caption)}}}", rf"\label{{{label}}}",
                rf"\begin{{tabular}}{{{'l' * self.left}{'r' * (len(self.headings) - self.left)}}}",
                r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table*}", "",
            ]
        )  # fmt: skip

    def _entries(self) -> list[list[Entry]]:
        return [[cell if isinstance(cell, Entry) else Entry(cell) for cell in row] for row in self.rows]


def _wrapped(entry: Entry, bold: str, escape: Callable[[str], str]) -> str:
    return bold.format(escape(entry.text)) if entry.bold else escape(entry.text)


def _latex_cell(entry: Entry) -> str:
    """A cell; one value above another is a stack, the lower ones small, and of it the first alone is bold."""
    first, *others = map(latex_text, entry.text.split("\n"))
    lines = [rf"\textbf{{{first}}}" if entry.bold else first, *(rf"{{\scriptsize {other}}}" for other in others)]
    stack = r" \\ ".join(lines)
    return rf"\shortstack[r]{{{stack}}}" if others else stack


def markdown_text(text: str) -> str:
    """Any text as Markdown shows it, in one line."""
    return _MARKDOWN.sub(r"\\\g<0>", text).replace("\n", " / ")


def latex_text(text: str) -> str:
    """Any text as LaTeX prints it."""
    apart = text.replace("--", f"-{_BETWEEN_DASHES}-")
    return "".join(_LATEX.get(character, character) for character in apart)


def terminal_tables(tables: Iterable[TextTable], notes: Iterable[str]) -> RenderableType:
    """Tables below each other, then the notes on them."""
    return Group(*(table.terminal() for table in tables), *(Text(note, style="dim") for note in notes))
