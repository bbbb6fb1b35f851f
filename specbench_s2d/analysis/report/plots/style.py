"""What every picture shares: the style, how one decoder looks, panels by target, the legend and the footnote.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; markers and lines differ too, for print in grey.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specbench_s2d.analysis.tables.naming import PAIRS, decoder_title, mark_notes, method_family

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# A method keeps its colour in every picture that colours by method.
METHOD_COLOURS = {"ar": "#000000", "sd": "#0072B2", "s2d": "#009E73", "mjgd": "#CC79A7", "mjsd": "#D55E00"}
METHOD_COLOURS |= {PAIRS: "#E69F00"}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "d")
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
    "svg.fonttype": "none",  # text stays text, to search and to edit, and takes less room
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # Verdana is about as wide, where DejaVu is missing
    "savefig.dpi": 300,
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


def decoder_looks(rows: pd.DataFrame, by_method: bool = False) -> dict[str, Look]:
    """One look per decoder, in the table's order.

    A colour each; where there are more decoders than colours, or lossy ones among them, a colour per family and a
    line each within it. `by_method`: a colour per method, however few they are.
    """
    first = rows.drop_duplicates("label")
    lossy, projected = [bool(value) for value in first["lossy"]], list(first["projected"])
    families = _methods(first) if by_method else family_titles(first)
    palette = family_colours(families)
    many = len(first) > len(COLOURS) or any(lossy)
    grouped = by_method or (many and 1 < len(palette) <= len(COLOURS))
    markers, colours = cycle(MARKERS), cycle(COLOURS)
    looks = {}
    for place, (label, family) in enumerate(families.items()):
        colour = palette[family] if grouped else next(colours)
        rank = list(families.values())[:place].count(family) if grouped else 0
        line = LINES[rank % len(LINES)]
        title = decoder_title(label, lossy[place], projected[place])
        looks[label] = Look(title, colour, next(markers), line, lossy[place])
    return looks


def family_titles(rows: pd.DataFrame) -> dict[str, str]:
    """Each decoder's family, whatever its options: its method, or, where one decoder was run with several drafts and
    none is lossy, its name and its draft."""
    drafts = rows.groupby("decoder")["draft"].nunique()
    with_draft = {
        row["label"]: f"{row['decoder']} with {row['draft']}" if isinstance(row["draft"], str) else str(row["decoder"])
        for row in rows.to_dict("records")
    }
    told_apart = (drafts > 1).any() and not rows["lossy"].any() and len(set(with_draft.values())) <= len(COLOURS)
    return with_draft if told_apart else _methods(rows)


def _methods(rows: pd.DataFrame) -> dict[str, str]:
    return {label: method_family(decoder) for label, decoder in zip(rows["label"], rows["decoder"], strict=True)}


def family_colours(families: dict[str, str]) -> dict[str, str]:
    """A colour per family, in the order of the labels: a method's own, else one that no method here has."""
    names = list(dict.fromkeys(families.values()))
    taken = {METHOD_COLOURS.get(name) for name in names}
    free = cycle([colour for colour in COLOURS if colour not in taken] or COLOURS)
    return {name: METHOD_COLOURS.get(name) or next(free) for name in names}


def panels(
    targets: Sequence[str], titles: Sequence[str], columns: int, width: float, height: float, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel of `height` inches per target, and room above for a legend of `titles` and below for the
    note."""
    rows = -(-len(targets) // columns)
    room = 0.2 * -(-len(titles) // legend_columns(titles, width)) + 0.5 if titles else 0.5
    figure = Figure(figsize=(width, height * rows + room), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False)
    made: list[Axes] = list(grid.flat)
    for unused in made[len(targets) :]:
        unused.remove()
    for lowest in made[: len(targets)][-columns:]:
        lowest.tick_params(labelbottom=True)
    return figure, made[: len(targets)]


def legend_columns(titles: Sequence[str], width: float) -> int:
    """How many legend entries fit beside each other, rows being alike: about 12 letters an inch, 6 for the marker."""
    most = max(1, min(len(titles), int(width * 12 // (max(map(len, titles)) + 6))))
    return -(-len(titles) // -(-len(titles) // most))


def handles(looks: dict[str, Look], lines: bool = False) -> list[Line2D]:
    """What a legend shows of each decoder; with `lines`, the kind of its line too."""
    return [
        Line2D([], [], color=k.colour, marker=k.marker, markerfacecolor=k.face, label=k.title,
               linestyle=k.line if lines else "-")
        for k in looks.values()
    ]  # fmt: skip


def legend(figure: Figure, looks: dict[str, Look], lines: bool = False) -> None:
    """Above the panels, so that it covers no data."""
    legend_of(figure, handles(looks, lines), 3.2 if lines else 2)


def legend_of(figure: Figure, shown: Sequence[Artist], length: float = 2) -> None:
    """The legend of these handles above the panels, as many beside each other as fit."""
    columns = legend_columns([str(handle.get_label()) for handle in shown], figure.get_figwidth())
    figure.legend(handles=shown, loc="outside upper left", ncols=columns, frameon=False, handlelength=length)


def bar(axes: Axes, place: int, value: float, colour: str, lossy: bool) -> None:
    """One horizontal bar; a lossy decoder's is hatched."""
    if lossy:
        axes.barh(place, value, height=0.72, facecolor="white", edgecolor=colour, hatch="////", linewidth=1)
    else:
        axes.barh(place, value, height=0.72, color=colour, alpha=0.85)


def footnote(figure: Figure, text: str, rows: pd.DataFrame) -> None:
    """What the picture shows, below it; marks are explained where there are any."""
    lines = [text, *mark_notes(rows["lossy"], rows["projected"])]
    figure.supxlabel("\n".join(lines), fontsize=7.5, color=GREY, x=0.01, ha="left")


def save(figure: Figure, path: Path) -> None:
    """Write a picture in the format of the path's suffix; an SVG has no date and no more digits than a screen shows."""
    if path.suffix != ".svg":
        figure.savefig(path, bbox_inches="tight")
        return
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    path.write_text(compact_svg(text.getvalue()), encoding="utf-8")


def compact_svg(svg: str) -> str:
    """The same picture in fewer bytes: coordinates to a hundredth of a point, no indentation, no names of groups that
    nothing refers to. What stands between the tags stays as it is."""
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))

    def shorter(tag: re.Match[str]) -> str:
        named = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", tag[0])
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", named)

    return re.sub(r"(?m)^ +", "", re.sub(r"<[^>]*>", shorter, svg))
