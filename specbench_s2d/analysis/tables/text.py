"""A table of text, for a terminal, as Markdown and as LaTeX; and how numbers are written in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from specbench_s2d.analysis.tables.layout import lay_out
from specbench_s2d.analysis.tables.naming import LOSSY_MARK, PROJECTED_MARK
from specbench_s2d.display import markdown_text, shown, visible, wrap

NOTHING = "–"
_BETWEEN_DASHES = "\u200b"  # two hyphens would be printed as one dash
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", LOSSY_MARK: r"$^\dagger$",
    PROJECTED_MARK: r"$^\ddagger$", "×": r"$\times$", "[": "{[}", "]": "{]}", _BETWEEN_DASHES: "{}",
    "τ": r"$\tau$", "γ": r"$\gamma$", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
}  # fmt: skip


def absent(value: Any) -> bool:
    """Whether a value is missing, be it None, NaN or pandas' NA."""
    import pandas as pd  # here, so that commands without numbers start without it

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
class Prose:
    """A sentence or more, whose lines are broken between words and nowhere else."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in wrap(shown(visible(self.text), options.encoding), options.max_width):
            yield Text(line, self.style, no_wrap=True, overflow="ignore")


@dataclass(frozen=True)
class TextTable:
    """Headings and rows of text; a line break within a cell sets one value above another.

    The first `left` columns hold words, which wrap, the others values; of the first `names` columns long words get
    short forms on a narrow terminal. `spare`: the columns that it leaves out first, and `elsewhere`: where they are.
    `caption`: what to know of the values.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str | Entry]]
    title: str = ""
    caption: str = ""
    left: int = 1
    names: int = 1
    spare: Sequence[int] = ()
    elsewhere: str = "a wider terminal, or --json"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as rich prints it, within the terminal's width: its title above and its caption below."""
        entries = [[Entry(heading, bold=True) for heading in self.headings], *self._entries()]
        columns = [[shown(entry.text, options.encoding) for entry in column] for column in zip(*entries, strict=True)]
        laid = lay_out(columns, self.left, self.names, self.spare, options.max_width)
        if self.title:
            yield Prose(self.title, "bold")
        shown_rows = list(laid.rows(self.left))
        several = 2 * sum(len(lines) > 1 for lines in shown_rows[1:]) > len(self.rows)
        apart = several and self.left == len(self.headings)  # most rows are paragraphs
        for number, (row, lines) in enumerate(zip(entries, shown_rows, strict=True)):
            yield from [Text()] if apart and number > 1 else []
            styles = [row[place].style or ("bold" if row[place].bold else "") for place in laid.places]
            for line in lines:
                cells = ((text, style) for text, style in zip(line, styles, strict=True))
                yield _spaced(cells, " " * laid.gap)
            if number == 0:
                yield Text(
                    shown("─", options.encoding) * (sum(laid.widths) + laid.gap * (len(laid.widths) - 1)), no_wrap=True
                )
        yield from (Prose(f"{form}: {name}", "dim") for form, name in laid.short_forms.items())
        if missing := laid.left_out(self.headings):
            yield Prose(f"Left out at {options.max_width} columns: {', '.join(missing)}; see {self.elsewhere}.", "dim")
        yield from [Prose(self.caption, "dim")] if self.caption else []
        yield Text()

    def markdown(self) -> str:
        """The table alone; one value above another is `one / other`."""
        alignment = ["---"] * self.left + ["---:"] * (len(self.headings) - self.left)
        lines = [map(markdown_text, self.headings), alignment]
        lines += [[_wrapped(entry, "**{}**", markdown_text) for entry in row] for row in self._entries()]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def markdown_section(self) -> str:
        """The table below its title, its caption below it."""
        title, caption = markdown_text(self.title), markdown_text(self.caption)
        return "\n\n".join(filter(None, (f"## {title}", self.markdown(), caption)))

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


def latex_text(text: str) -> str:
    """Any text as LaTeX prints it, in one line."""
    apart = visible(text.replace("\n", " ")).replace("--", f"-{_BETWEEN_DASHES}-")
    return "".join(_LATEX.get(character, character) for character in apart)


def _spaced(cells: Iterable[tuple[str, str]], gap: str) -> Text:
    """One line of a table: texts with their styles."""
    line = Text(gap, no_wrap=True, overflow="ignore").join(Text(text, style) for text, style in cells)
    line.rstrip()
    return line


def terminal_tables(tables: Iterable[TextTable], notes: Iterable[str]) -> RenderableType:
    """Tables below each other, then the notes on them."""
    return Group(*tables, *(Prose(note, "dim") for note in notes))
