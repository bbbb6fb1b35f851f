"""What every plot shares: the style, how one decoder looks, panels by target, the legend and the footnote.

A label looks the same in every plot of a run, and in other runs. The first colours are Okabe and Ito's, which stay
apart for colour-blind readers; markers and lines differ too, for print in grey.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from PIL import Image

from specbench_s2d.analysis.tables.naming import FIRST, PAIRS, mark_notes, method_family, row_title
from specbench_s2d.analysis.tables.remarks import within_launches
from specbench_s2d.display import visible
from specbench_s2d.files import write_whole

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
METHOD_COLOURS = {
    "ar": "#000000", "sd": "#0072B2", "s2d": "#009E73", "mjgd": "#CC79A7", "mjsd": "#D55E00", PAIRS: "#E69F00",
    "lookup": "#56B4E9", "suffix": "#8C510A", "recycling": "#999933", "eagle": "#882255", "medusa": "#44AA99",
    FIRST: "#332288",
}  # fmt: skip
OTHER_COLOURS = ("#7A68A6", "#A6761D", "#666666", "#C51B7D")
"""Of methods that are not named above; a method's name decides."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "d")
Line = Literal["-", "--", ":", "-."]
LINES: tuple[Line, ...] = ("-", "--", ":", "-.")
_KNOWN: dict[str, tuple[str, Line]] = {
    "ar": ("o", "-"), "sd": ("s", "-"), "s2d": ("^", "-"), "s2d-tree": ("D", ":"), "s2d-auto": ("v", "--"),
    "mjgd": ("P", "-"), "mjsd": ("X", "-"), "mjsd:candidates=4": ("<", "--"), "beam+token": ("p", "-"),
    "s2d+joint": ("*", "--"), "lookup": (">", "-"), "suffix": ("d", "-"), "recycling": ("o", "-"),
    "eagle": ("s", "-"), "medusa": ("^", "-"),
}  # fmt: skip
"""Markers and lines of the labels that most runs have, in their method's own colour."""
_SALT = 31  # one at which no two labels of a run file that ships want the same look
GREY = "#555555"
WIDTH = 7.2  # inches: a page's text width
PAGE_HEIGHT = 10.0
"""Inches: a taller picture is for a screen, and its PNG has `SCREEN_DPI`."""
SCREEN_DPI = 150
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "figure.labelsize": 9,
    "xtick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.titleweight": "bold",
    "axes.titley": 1.0,  # as no panel has ticks above it; else every drawing looks for them anew
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
    "text.parse_math": False,  # names are data: a dollar sign is one
}


@dataclass(frozen=True)
class Look:
    """How one decoder is drawn in every plot; a lossy one is hollow."""

    title: str
    colour: str
    marker: str
    line: Line
    lossy: bool

    @property
    def face(self) -> str:
        return "white" if self.lossy else self.colour


Looks = Mapping[str, Look]
"""The look of each label of a run; every plot of the run takes the looks of all its labels."""


def decoder_looks(rows: pd.DataFrame) -> dict[str, Look]:
    """One look per label, in the table's order: no two have both colour and marker alike.

    A label decides its look, whatever run it stands in: the colour is its method's, in one of three shades, and shade,
    marker and line are drawn from a hash of the label, but for those in `_KNOWN`. Only where two labels of a run draw
    the same, the later by name takes the next that is free.
    """
    first = {str(row["label"]): row for row in rows.drop_duplicates("label").to_dict("records")}
    taken = {(method_colour(method_family(label)), marker) for label, (marker, _) in _KNOWN.items()}
    looks = {}
    for label in sorted(first):
        colour, marker, line = _look(label, method_colour(method_family(first[label]["decoder"])), taken)
        looks[label] = Look(row_title(first[label]), colour, marker, line, bool(first[label]["lossy"]))
    return {label: looks[label] for label in first}


def _look(label: str, colour: str, taken: set[tuple[str, str]]) -> tuple[str, str, Line]:
    """Colour, marker and line of a label of a method of this colour; what it takes is added to `taken`."""
    if label in _KNOWN:
        return colour, *_KNOWN[label]
    number = _hash(f"{_SALT}{label}")
    choices = [(shade, marker) for shade in (colour, _mixed(colour, "black", 0.4), _mixed(colour, "white", 0.45))
               for marker in MARKERS]  # fmt: skip
    start = number % len(choices)
    order = [*choices[start:], *choices[:start]]
    chosen = next((choice for choice in order if choice not in taken), order[0])
    taken.add(chosen)
    return *chosen, LINES[number // len(choices) % len(LINES)]


def shown_looks(rows: pd.DataFrame, looks: Looks | None) -> dict[str, Look]:
    """Of the run's looks (without them, of those of `rows`) the ones of the labels in `rows`, in their order."""
    looks = decoder_looks(rows) if looks is None else looks
    return {label: looks[label] for label in dict.fromkeys(rows["label"])}


def method_colour(method: str) -> str:
    """The colour of a method, by its name."""
    return METHOD_COLOURS.get(method) or OTHER_COLOURS[_hash(method) % len(OTHER_COLOURS)]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _mixed(colour: str, other: str, share: float) -> str:
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(to_rgb(colour), to_rgb(other), strict=True))
    return to_hex((red, green, blue)).upper()


def ends(row: Mapping[Any, Any], column: str) -> tuple[float, float] | None:
    """Both ends of a row's interval; None where it has none."""
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    return None if pd.isna(low) or pd.isna(high) else (float(low), float(high))


def interval_note(rows: pd.DataFrame, column: str, drawn_as: str = "bars") -> str:
    """What the caption says of the intervals of a column: whether they stand on one launch, and whether some rows, or
    all, stand on too few questions for one."""
    known = [ends(row, column) is not None for row in rows.to_dict("records")]
    if not any(known):
        return "no intervals: too few questions"
    source = f" over questions{within_launches(rows['launches']).partition(':')[0]}" if "launches" in rows else ""
    return f"{drawn_as}: 95 % intervals{source}" + ("" if all(known) else " (none where questions are too few)")


def from_zero(axes: Axes, direction: Literal["x", "y"]) -> None:
    """No axis of values that cannot be negative goes below 0, whatever its margin."""
    get, put = (axes.get_xlim, axes.set_xlim) if direction == "x" else (axes.get_ylim, axes.set_ylim)
    put(max(0.0, get()[0]), get()[1])


def panels(
    targets: Sequence[str], titles: Sequence[str], columns: int, width: float, height: float, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel of `height` inches per target, and room above for a legend of `titles` and below for the
    note."""
    rows = -(-len(targets) // columns)
    room = 0.2 * -(-len(titles) // legend_columns(titles, width)) + 0.5 if titles else 0.5
    figure = Figure(figsize=(width, height * rows + room), layout="constrained")
    made: list[Axes] = list(figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False).flat)
    for unused in made[len(targets) :]:
        unused.remove()
    for lowest in made[: len(targets)][-columns:]:
        lowest.tick_params(labelbottom=True)
    return figure, made[: len(targets)]


def legend_columns(titles: Sequence[str], width: float) -> int:
    """How many legend entries fit abreast, rows being alike: about 12 letters an inch, 6 for the marker."""
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
    """The legend of these handles above the panels, as many abreast as fit."""
    columns = legend_columns([str(handle.get_label()) for handle in shown], figure.get_figwidth())
    figure.legend(handles=shown, loc="outside upper left", ncols=columns, frameon=False, handlelength=length)


def bar(axes: Axes, place: int, value: float, colour: str, lossy: bool) -> None:
    """One horizontal bar; a lossy decoder's is hatched."""
    if lossy:
        axes.barh(place, value, height=0.72, facecolor="white", edgecolor=colour, hatch="////", linewidth=1)
    else:
        axes.barh(place, value, height=0.72, color=colour, alpha=0.85)


def add_note(figure: Figure, text: str) -> None:
    """One more line above the footnote."""
    figure.supxlabel(f"{text}\n{figure.get_supxlabel()}", fontsize=7.5, color=GREY, x=0.01, ha="left")


def footnote(figure: Figure, text: str, rows: pd.DataFrame) -> None:
    """What the plot shows, below it; marks are explained where there are any."""
    lines = [text, *mark_notes(rows["lossy"], rows["projected"])]
    figure.supxlabel("\n".join(lines), fontsize=7.5, color=GREY, x=0.01, ha="left")


def save(figure: Figure, path: Path, bounds: Bbox) -> None:
    """Write what lies within `bounds`, in inches, as PNG or SVG, by the path's suffix: a PNG of 256 colours, as plots
    have few; an SVG without a date and with no more digits than a screen shows."""
    if path.suffix == ".png":
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png", bbox_inches=bounds, dpi=figure.dpi, pil_kwargs={"compress_level": 0})
        picture = Image.open(pixels)
        few_colours = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        packed = io.BytesIO()
        few_colours.save(packed, format="png", dpi=picture.info["dpi"])
        write_whole(path, packed.getvalue())
        return
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches=bounds, metadata={"Date": None})
    write_whole(path, compact_svg(visible(text.getvalue(), keep="\n")))


def compact_svg(svg: str) -> str:
    """The same plot in fewer bytes: coordinates to a hundredth of a point, no indentation, no names of groups that
    nothing refers to. What stands between the tags stays as it is."""
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))

    def shorter(tag: re.Match[str]) -> str:
        named = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", tag[0])
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", named)

    return re.sub(r"(?m)^ +", "", re.sub(r"<[^>]*>", shorter, svg))
