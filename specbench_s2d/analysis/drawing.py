"""What every picture shares: the style, how one decoder looks, panels by target, the legend and the footnote.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; markers and lines differ too, for print in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specbench_s2d.analysis.names import LOSSY_NOTE, decoder_title

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
Line = Literal["-", "--", ":", "-."]
LINES: tuple[Line, ...] = ("-", "--", ":", "-.")
GREY = "#555555"
WIDTH = 7.2  # inches: a page's text width
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "figure.labelsize": 9,
    "xtick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid.axis": "y",
    "axes.grid": True,
    "axes.ymargin": 0.1,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "specbench-s2d",
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class Look:
    """How one decoder is drawn in every picture; a lossy one is hollow."""

    title: str
    colour: str
    marker: str
    line: Line
    lossy: bool

    @property
    def face(self) -> str:
        return "white" if self.lossy else self.colour


def decoder_looks(rows: pd.DataFrame) -> dict[str, Look]:
    """One look per decoder, in the table's order.

    A colour each; where there are more decoders than colours, a colour per family and a line each within it.
    """
    first = rows.drop_duplicates("label")
    lossy = [bool(value) for value in first["lossy"]]
    families = family_titles(first)
    palette = family_colours(families)
    grouped = len(first) > len(COLOURS) and 1 < len(palette) <= len(COLOURS)
    markers, colours = cycle(MARKERS), cycle(COLOURS)
    looks = {}
    for place, (label, family) in enumerate(families.items()):
        colour = palette[family] if grouped else next(colours)
        rank = list(families.values())[:place].count(family) if grouped else 0
        line = LINES[rank % len(LINES)]
        looks[label] = Look(decoder_title(label, lossy[place]), colour, next(markers), line, lossy[place])
    return looks


def family_titles(rows: pd.DataFrame) -> dict[str, str]:
    """Each decoder's family: its name and its draft, whatever the options."""
    return {
        row["label"]: f"{row['decoder']} with {row['draft']}" if isinstance(row["draft"], str) else str(row["decoder"])
        for row in rows.to_dict("records")
    }


def family_colours(families: dict[str, str]) -> dict[str, str]:
    """A colour per family, in the order of the labels."""
    return dict(zip(dict.fromkeys(families.values()), cycle(COLOURS), strict=False))


def panels(
    targets: Sequence[str], looks: dict[str, Look], columns: int, width: float, height: float
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel of `height` inches per target, and room above for the legend and below for the note."""
    rows = -(-len(targets) // columns)
    room = 0.2 * -(-len(looks) // legend_columns([look.title for look in looks.values()], width)) + 0.5
    figure = Figure(figsize=(width, height * rows + room), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    made: list[Axes] = list(grid.flat)
    for unused in made[len(targets) :]:
        unused.remove()
    return figure, made[: len(targets)]


def legend_columns(titles: Sequence[str], width: float) -> int:
    """How many legend entries fit beside each other: about 12 letters an inch, 6 for the marker."""
    return max(1, min(len(titles), int(width * 12 // (max(map(len, titles)) + 6))))


def handles(looks: dict[str, Look], lines: bool = False) -> list[Line2D]:
    """What a legend shows of each decoder; with `lines`, the kind of its line too."""
    return [
        Line2D([], [], color=k.colour, marker=k.marker, markerfacecolor=k.face, label=k.title,
               linestyle=k.line if lines else "-")
        for k in looks.values()
    ]  # fmt: skip


def legend(figure: Figure, looks: dict[str, Look], lines: bool = False) -> None:
    """Above the panels, so that it covers no data."""
    columns = legend_columns([look.title for look in looks.values()], figure.get_figwidth())
    length = 3.2 if lines else 2
    shown = handles(looks, lines)
    figure.legend(handles=shown, loc="outside upper left", ncols=columns, frameon=False, handlelength=length)


def footnote(figure: Figure, text: str, rows: pd.DataFrame) -> None:
    """What the picture shows, below it; lossy decoders are explained where there are any."""
    lines = [text, *([LOSSY_NOTE] if rows["lossy"].any() else [])]
    figure.supxlabel("\n".join(lines), fontsize=7.5, color=GREY, x=0.01, ha="left")
