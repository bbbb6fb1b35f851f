"""A table of text within the width of a terminal: no word and no number is broken; columns are left out, and it is
said which."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from rich.cells import cell_len

from specbench_s2d.display import words, wrap

_LONG_NAME = 16  # characters: longer names get a short form where the table is too wide
_HEAD = re.compile(r"[^\W_][\w.+-]{0,9}")  # what a short form begins with: the method, or the first letters
_NAMED = 6  # of the columns that are left out
Column = list[str]
"""A heading and the cells below it; line breaks part values that stand above each other."""


@dataclass(frozen=True)
class Layout:
    """Which columns are shown, and how wide; and what short forms stand for."""

    columns: list[Column]
    places: list[int]
    widths: list[int]
    gap: int
    short_forms: dict[str, str] = field(default_factory=dict)

    def rows(self, left: int) -> Iterator[list[list[str]]]:
        """For each row of the table, the headings first, its lines of cells, padded; headings and the first `left`
        columns hold words, which wrap and leave the values below each other at their sides."""
        shown = list(zip(self.columns, self.places, self.widths, strict=True))
        values = any(place >= left for place in self.places)
        for row in range(len(self.columns[0])):
            lines: list[list[str]] = []
            stacks = ([*column[row].split("\n")] if values else [column[row]] for column in self.columns)
            for texts in zip_longest(*stacks, fillvalue=""):
                parts = [
                    wrap(text, width) if row == 0 or place < left else [text]
                    for text, (_, place, width) in zip(texts, shown, strict=True)
                ]
                lines += ([*line] for line in zip_longest(*parts, fillvalue=""))
            yield [[_pad(t, width, place >= left) for t, (_, place, width) in zip(line, shown, strict=True)]
                   for line in lines]  # fmt: skip

    def left_out(self, headings: Sequence[str]) -> list[str]:
        """The headings of the columns that are not shown, the last of many only counted."""
        names = [", ".join(heading.split("\n")) for i, heading in enumerate(headings) if i not in self.places]
        more = len(names) - _NAMED
        return [*names[:_NAMED], f"{more} more"] if more > 1 else names


def lay_out(columns: Sequence[Column], left: int, names: int, spare: Sequence[int], width: int) -> Layout:
    """Columns within `width`: as they are; else words wrap; else long names in the first `names` columns and in
    headings get short forms; else columns are left out in the order `spare`, then those of values from the right. Words
    that are longer yet stand out."""
    short: dict[str, str] = {}
    made = [list(column) for column in columns]
    places = list(range(len(made)))
    gap = _gap(made, left, places, width)
    if gap is None:
        made = _shortened(made, names, short)
        gap = _gap(made, left, places, width)
    order = [*spare, *(i for i in reversed(range(left, len(made))) if i not in spare)]
    while gap is None and order:
        places.remove(order.pop(0))
        gap = _gap(made, left, places, width)
    gap = gap or 1
    kept = [made[place] for place in places]
    used = {form: name for form, name in short.items() if any(form in cell for column in kept for cell in column)}
    return Layout(kept, places, _widths(made, left, places, width, gap), gap, used)


def _gap(columns: Sequence[Column], left: int, places: Sequence[int], width: int) -> int | None:
    """Spaces between columns that fit, 2 or else 1, rather without wrapping words; None where neither does."""
    natural = sum(_natural(columns[place]) for place in places)
    least = sum(_least(columns[place], place < left) for place in places)
    gaps = len(places) - 1
    return next((gap for taken in (natural, least) for gap in (2, 1) if taken + gap * gaps <= width), None)


def _least(column: Column, wraps: bool) -> int:
    """The columns that a column needs: its longest line; its longest word where words wrap, as those of headings do."""
    heading, *cells = column
    parts = words(heading)
    for cell in cells:
        parts += words(cell) if wraps else cell.split("\n")
    return max(map(cell_len, parts), default=0)


def _natural(column: Column) -> int:
    """The columns that a column takes where nothing wraps."""
    return max(cell_len(line) for cell in column for line in cell.split("\n"))


def _widths(columns: Sequence[Column], left: int, places: Sequence[int], width: int, gap: int) -> list[int]:
    """What each column gets: what it needs, and of the rest what it could use, the one that lacks most first."""
    widths = [_least(columns[place], place < left) for place in places]
    wanted = [_natural(columns[place]) for place in places]
    for _ in range(width - sum(widths) - gap * (len(places) - 1)):
        lacks = [want - has for want, has in zip(wanted, widths, strict=True)]
        if max(lacks) <= 0:
            break
        widths[lacks.index(max(lacks))] += 1
    return widths


def _shortened(columns: Sequence[Column], names: int, short: dict[str, str]) -> list[Column]:
    """The columns with short forms of long words in the first `names` of them and in headings; each is added to
    `short` with what it stands for."""
    forms: dict[str, str] = {}

    def shorter(text: str) -> str:
        return re.sub(rf"\S{{{_LONG_NAME + 1},}}", lambda word: _form(word[0], forms), text)

    made = [
        [shorter(cell) for cell in column] if place < names else [shorter(column[0]), *column[1:]]
        for place, column in enumerate(columns)
    ]
    short |= {form: word for word, form in forms.items()}
    return made


def _form(word: str, forms: dict[str, str]) -> str:
    """The short form of a name: its beginning and a number of its own."""
    if word not in forms:
        head = _HEAD.search(word)
        forms[word] = f"{head[0] if head else ''}#{len(forms) + 1}"
    return forms[word]


def _pad(text: str, width: int, right: bool) -> str:
    room = " " * (width - cell_len(text))
    return room + text if right else text + room
