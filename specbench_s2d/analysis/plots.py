"""Pictures of the tidy tables, as PNG and SVG. Nothing is computed here: every point drawn stands in a table.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; markers differ too, for print in grey.
The same table gives the same SVG, byte for byte, with the same matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specbench_s2d.analysis.names import LOSSY_NOTE, decoder_title, suite_title
from specbench_s2d.analysis.tidy import OVERALL
from specbench_s2d.bench.records import BASELINE

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_WIDTH = 7.2  # inches: a page's text width
_STYLE: Any = {
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
FORMATS = ("png", "svg")


@dataclass(frozen=True)
class _Look:
    """How one decoder is drawn in every picture; a lossy one is hollow."""

    title: str
    colour: str
    marker: str
    lossy: bool

    @property
    def face(self) -> str:
        return "white" if self.lossy else self.colour


def draw_all(table: pd.DataFrame, positions: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `speedup`, `mat` and `acceptance` into `folder`, those that have anything to show; returns the paths."""
    written: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    with _style():
        pictures = {"speedup": speedup(table), "mat": mean_accepted_tokens(table), "acceptance": acceptance(positions)}
        for name, figure in pictures.items():
            written += _save(figure, folder / name) if figure else []
    return written


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield


def _save(figure: Figure, stem: Path) -> list[Path]:
    """Lay out once, then write every format, without a date in the SVG."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    paths = [stem.with_suffix(f".{suffix}") for suffix in FORMATS]
    for path in paths:
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def speedup(table: pd.DataFrame) -> Figure | None:
    """Speed-up by suite, a panel per target, with 95 % intervals; None where nothing was compared with AR."""
    shown = table[(table["label"] != BASELINE) & table["speedup"].notna()]
    figure = _by_suite(shown, "speedup", f"Speed-up (× {BASELINE})", f"{BASELINE} = 1")
    if figure:
        _footnote(figure, "Decode tokens/s over those of the same target alone; bars: 95 % intervals.", shown)
    return figure


def mean_accepted_tokens(table: pd.DataFrame) -> Figure | None:
    """Mean accepted tokens by suite, a panel per target; None where no decoder but AR finished."""
    shown = table[(table["label"] != BASELINE) & table["mat"].notna()]
    figure = _by_suite(shown, "mat", "Tokens per step", f"{BASELINE} = 1")
    if figure:
        _footnote(figure, "Mean accepted tokens: emitted per step, the target's own included.", shown)
    return figure


def acceptance(positions: pd.DataFrame) -> Figure | None:
    """Acceptance rate by draft position over all suites, a panel per target; None where nothing was drafted.

    With one or two decoders there is room for the single suites too, as thin lines.
    """
    looks = _looks(positions)
    shown = positions if len(looks) <= 2 else positions[positions["suite"] == OVERALL]
    if shown.empty:
        return None
    targets = list(dict.fromkeys(shown["target"]))
    columns = min(3, len(targets))
    figure, panels = _panels(targets, looks, columns, width=_WIDTH if columns > 1 else 4.4, height=2.4)
    for target, axes in zip(targets, panels, strict=True):
        for label, look in looks.items():
            _draw_positions(axes, shown[(shown["target"] == target) & (shown["label"] == label)], look)
        axes.set_title(target, loc="left")
        axes.set(xlabel="Draft position", ylim=(0, 1.02))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.set_xticks(range(1, int(shown["position"].max()) + 1))
    figure.supylabel("Acceptance rate", fontsize=9)
    _legend(figure, looks)
    which = "All suites together" if len(looks) > 2 else "Thick: all suites together; thin: single suites"
    _footnote(figure, f"Share accepted of the proposals that reached the position.\n{which}.", shown)
    return figure


def _draw_positions(axes: Axes, rows: pd.DataFrame, look: _Look) -> None:
    for suite, line in rows.groupby("suite", sort=False):
        overall = suite == OVERALL
        axes.plot(
            line["position"],
            line["rate"],
            color=look.colour,
            linewidth=1.8 if overall else 0.7,
            alpha=1.0 if overall else 0.4,
            marker=look.marker if overall else None,
            markersize=5,
            markerfacecolor=look.face,
            zorder=3 if overall else 2,
        )


def _by_suite(shown: pd.DataFrame, column: str, axis: str, reference: str) -> Figure | None:
    """A row of panels, one per target: suites along x, decoders side by side within a suite."""
    if shown.empty:
        return None
    looks = _looks(shown)
    targets = list(dict.fromkeys(shown["target"]))
    seen = list(dict.fromkeys(s for s in shown["suite"] if s != OVERALL))
    suites = [*seen, OVERALL] if len(seen) > 1 else seen
    figure, panels = _panels(targets, looks, 1, width=min(_WIDTH, 3.2 + 0.9 * len(suites)), height=1.8)
    for target, axes in zip(targets, panels, strict=True):
        axes.axhline(1, color="#555555", linewidth=1, linestyle="--", zorder=1)
        axes.annotate(reference, (1, 1), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
                      va="center", color="#555555", fontsize=8)  # fmt: skip
        for place, (label, look) in enumerate(looks.items()):
            rows = shown[(shown["target"] == target) & (shown["label"] == label)].set_index("suite")
            _draw_points(axes, rows, suites, column, look, _offset(place, len(looks)))
        axes.set_title(target, loc="left")
        axes.set_xlim(-0.5, len(suites) - 0.5)
        axes.set_xticks(range(len(suites)), [suite_title(s) for s in suites])
        axes.tick_params(axis="x", length=0)
        if OVERALL in suites:
            axes.axvline(len(suites) - 1.5, color="#BBBBBB", linewidth=0.8)
    figure.supylabel(axis, fontsize=9)
    _legend(figure, looks)
    return figure


def _offset(place: int, count: int) -> float:
    """Where a decoder stands within its suite's slot of width 1, the middle being 0."""
    return (place - (count - 1) / 2) * min(0.2, 0.8 / count)


def _draw_points(
    axes: Axes, rows: pd.DataFrame, suites: Sequence[str], column: str, look: _Look, offset: float
) -> None:
    for x, suite in enumerate(suites):
        if suite not in rows.index:
            continue
        row = rows.loc[suite]
        low, high = f"{column}_low", f"{column}_high"
        if low in rows and pd.notna(row[low]):
            axes.vlines(x + offset, row[low], row[high], color=look.colour, linewidth=1.4, zorder=2)
        axes.plot(x + offset, row[column], color=look.colour, marker=look.marker, markersize=5.5,
                  markerfacecolor=look.face, zorder=3)  # fmt: skip


def _looks(rows: pd.DataFrame) -> dict[str, _Look]:
    """One look per decoder, in the table's order."""
    lossy = dict(zip(rows["label"], rows["lossy"], strict=True))
    shapes = zip(cycle(_COLOURS), cycle(_MARKERS), strict=False)
    return {
        label: _Look(decoder_title(label, bool(is_lossy)), colour, marker, bool(is_lossy))
        for (label, is_lossy), (colour, marker) in zip(lossy.items(), shapes, strict=False)
    }


def _panels(
    targets: Sequence[str], looks: dict[str, _Look], columns: int, width: float, height: float
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel of `height` inches per target, and room above for the legend and below for the note."""
    rows = -(-len(targets) // columns)
    room = 0.2 * -(-len(looks) // _legend_columns(looks, width)) + 0.5
    figure = Figure(figsize=(width, height * rows + room), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for unused in panels[len(targets) :]:
        unused.remove()
    return figure, panels[: len(targets)]


def _legend_columns(looks: dict[str, _Look], width: float) -> int:
    """How many legend entries fit beside each other: about 12 letters an inch, 6 for the marker."""
    longest = max(len(look.title) for look in looks.values())
    return max(1, min(len(looks), int(width * 12 // (longest + 6))))


def _legend(figure: Figure, looks: dict[str, _Look]) -> None:
    """Above the panels, so that it covers no data."""
    handles = [
        Line2D([], [], color=k.colour, marker=k.marker, markerfacecolor=k.face, label=k.title) for k in looks.values()
    ]
    columns = _legend_columns(looks, figure.get_figwidth())
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False)


def _footnote(figure: Figure, text: str, rows: pd.DataFrame) -> None:
    lines = [text, *([LOSSY_NOTE] if rows["lossy"].any() else [])]
    figure.supxlabel("\n".join(lines), fontsize=7.5, color="#555555", x=0.01, ha="left")
