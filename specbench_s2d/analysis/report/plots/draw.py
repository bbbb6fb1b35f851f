"""Every plot of a run, as PNG and SVG. Nothing is computed in this package: every point drawn stands in a table.

The same tables give the same SVG, byte for byte, with the same matplotlib.
"""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from specbench_s2d.analysis.report.plots import by_suite, by_target, lossy, sweeps, tradeoffs
from specbench_s2d.analysis.report.plots.processes import draw_in, processes_for
from specbench_s2d.analysis.report.plots.style import (
    PAGE_HEIGHT,
    SCREEN_DPI,
    STYLE,
    Looks,
    add_note,
    decoder_looks,
    save,
)
from specbench_s2d.analysis.tables.naming import method_family
from specbench_s2d.analysis.tables.remarks import projections
from specbench_s2d.analysis.tables.series import PlotTables
from specbench_s2d.analysis.tables.summary import speed_column
from specbench_s2d.display import visible
from specbench_s2d.runs.record import BASELINE

FORMATS = ("png", "svg")


_LONGEST_NAME = 60  # characters of a family's name in that of a file, of which file systems take 255 bytes
MOST_DECODERS = 10
"""With more decoders than these beside AR, a plot `by_family` becomes one plot per method family."""


@dataclass(frozen=True)
class Plot:
    """The name of its file, what it is called, and how it is drawn with the looks of the run's labels: None where the
    tables give nothing to show."""

    name: str
    title: str
    draw: Callable[[PlotTables, Looks], Figure | None]
    by_family: bool = False


PLOTS = (
    Plot(
        "speedup",
        "Speed-up by suite",
        lambda t, k: by_suite.by_suite(t.summary, speed_column(t.summary), k),
        by_family=True,
    ),
    Plot("mat", "Mean accepted tokens by suite", lambda t, k: by_suite.by_suite(t.summary, "mat", k), by_family=True),
    Plot(
        "acceptance",
        "Acceptance rate by draft position",
        lambda t, k: by_suite.acceptance(t.positions, k),
        by_family=True,
    ),
    Plot("radar", "Speed-up by suite, as shapes", lambda t, k: by_target.radar(t.summary, k), by_family=True),
    Plot("mean_speedup", "Mean speed-up over targets", lambda t, k: by_target.mean_speedup(t.summary, k)),
    Plot("exit_depths", "Where drafted tokens leave the draft", lambda t, _: by_target.exit_depths(t.exits)),
    Plot("thresholds", "Speed-up by confidence thresholds", lambda t, _: by_target.thresholds(t.thresholds)),
    Plot("ppl_k", "Perplexity by k", lambda t, k: sweeps.ppl_k(t.summary, t.by_k, k)),
    Plot("rouge_k", "Task quality by k", lambda t, k: sweeps.rouge_k(t.summary, t.by_k, k)),
    Plot("ppl_tau", "Perplexity by τ", lambda t, k: sweeps.against_tau(t, "perplexity", k)),
    Plot("speed_tau", "Speed-up by τ", lambda t, k: sweeps.against_tau(t, "speedup", k)),
    Plot("mat_tau", "Mean accepted tokens by τ", lambda t, k: sweeps.against_tau(t, "mat", k)),
    Plot("mat_gamma", "Mean accepted tokens at equal γ", lambda t, k: tradeoffs.mat_gamma(t.equal_gamma, k)),
    Plot(
        "speed_ppl",
        "Speed-up and perplexity",
        lambda t, k: tradeoffs.speed_ppl(t.summary, {"k": t.by_k, "tau": t.by_tau}, k),
    ),
    Plot(
        "lossy",
        "Lossy decoders: text beside accepted length",
        lambda t, k: lossy.lossy(t.summary, {"k": t.by_k, "tau": t.by_tau}, k),
    ),
    Plot("energy", "Energy", lambda t, k: tradeoffs.energy(t.summary, k)),
)
_TITLES = {plot.name: plot.title for plot in PLOTS}


@dataclass(frozen=True)
class Part:
    """Some of a run's decoders: what a plot of them is called besides, and what its caption says of the choice."""

    labels: frozenset[str]
    name: str = ""
    note: str = ""

    def of(self, tables: PlotTables) -> PlotTables:
        """The tables that plots by family are drawn from, with these decoders and AR alone."""
        kept = {*self.labels, BASELINE}
        summary, positions = (rows[rows["label"].isin(kept)] for rows in (tables.summary, tables.positions))
        return replace(tables, summary=summary, positions=positions)


def parts(summary: pd.DataFrame) -> list[Part]:
    """All decoders in one part, or, of more than `MOST_DECODERS`: a first part in which every method stands, and one of
    each method that is not whole in it.

    The first part holds the decoders without options, and of a method that has none such its first; where these are too
    many, one decoder of each method (`s2d`, but not `s2d-tree`); where these are too many, it is left out.
    """
    rows = summary[summary["label"] != BASELINE].drop_duplicates("label")
    if len(rows) <= MOST_DECODERS:
        return [Part(frozenset(rows["label"]))]
    families: dict[str, list[str]] = {}
    for label, decoder in zip(rows["label"], rows["decoder"], strict=True):
        families.setdefault(method_family(decoder), []).append(label)
    plain = set(rows["label"]) & set(rows["decoder"])
    of_each = {name: [label for label in labels if label in plain] or labels[:1] for name, labels in families.items()}
    one_of_each = [name if name in labels else labels[0] for name, labels in of_each.items()]
    choices = (
        (chain.from_iterable(of_each.values()), "Decoders without options, and one of each method that has none such"),
        (one_of_each, "One decoder of each method"),
    )
    all_methods = (
        Part(frozenset(of), note=f"{what}; the others: see the plots of each family.") for of, what in choices
    )
    first = next((part for part in all_methods if len(part.labels) <= MOST_DECODERS), Part(frozenset()))
    own = [Part(frozenset(labels), name, f"Decoders of one family: {name}.") for name, labels in families.items()]
    return ([first] if first.labels else []) + [part for part in own if not part.labels <= first.labels]


def title_of(stem: str) -> str:
    """What the plot in a file of this stem is called."""
    name, _, family = stem.partition("-")
    title = _TITLES.get(name, name.replace("_", " "))
    return f"{title}: {family.replace('-', ' ')}" if family else title


def draw_all(tables: PlotTables, folder: Path, processes: int | None = None) -> list[Path]:
    """Write every plot that has anything to show into `folder`; returns the paths, in the order of `PLOTS`.

    Many panels are drawn by several processes, by default as many as pay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = _choices(tables)
    panels = tables.summary["target"].nunique() * len(chosen)
    drawn = draw_in(processes or processes_for(panels), partial(_draw_some, tables, folder))
    stems = [stem for stem, _, _ in chosen]
    return sorted(drawn, key=lambda path: stems.index(path.stem))


def _draw_some(tables: PlotTables, folder: Path, first: int, every: int) -> list[Path]:
    """Draw each `every`-th of the plots from the `first` on."""
    projected = projections(tables.summary)
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # matplotlib's: letters that its fonts lack, panels without room
        found = figures(tables, first, every)
        return [path for stem, figure in found for path in _save(figure, folder / stem, projected)]


def figures(tables: PlotTables, first: int = 0, every: int = 1) -> Iterator[tuple[str, Figure]]:
    """Every plot that has anything to show (or each `every`-th from the `first` on), with the stem of its file."""
    looks = run_looks(tables)
    for stem, plot, part in _choices(tables)[first::every]:
        figure = plot.draw(part.of(tables) if plot.by_family else tables, looks)
        if figure and part.note:
            add_note(figure, part.note)
        if figure:
            yield stem, figure


def _choices(tables: PlotTables) -> list[tuple[str, Plot, Part]]:
    """Every plot with the decoders that it shows, and the stem of its files."""
    by_family, whole, taken = parts(tables.summary), [Part(frozenset())], set[str]()
    chosen = [(plot, part) for plot in PLOTS for part in (by_family if plot.by_family else whole)]
    return [(_stem(plot.name, part.name, taken), plot, part) for plot, part in chosen]


def _stem(plot: str, family: str, taken: set[str]) -> str:
    """A name that a file system takes, of any family's name, and that is not `taken` yet."""
    stem = "-".join(filter(None, (plot, re.sub(r"[^\w.+]+", "-", family).strip("-")[:_LONGEST_NAME])))
    while stem in taken:
        stem += "-"
    taken.add(stem)
    return stem


def run_looks(tables: PlotTables) -> Looks:
    """The looks of all of a run's labels, and of what the decoders of a sweep are called together."""
    columns = ["label", "decoder", "lossy", "projected"]
    swept = [rows.assign(label=rows["variant"]) for rows in (tables.by_k, tables.by_tau)]
    return decoder_looks(pd.concat([rows[columns] for rows in (tables.summary, tables.positions, *swept)]))


def _save(figure: Figure, stem: Path, title: Sequence[str]) -> list[Path]:
    """Lay out and measure once, as the PNG is drawn (text is wider or narrower at another dpi), then write every
    format; projections stand in the title."""
    if title:
        figure.suptitle("\n".join(textwrap.fill(line, 110) for line in title), fontsize=7.5, x=0.01, ha="left")
    for text in figure.findobj(Text):
        text.set_text(visible(text.get_text(), keep="\n"))
    figure.set_dpi(SCREEN_DPI if figure.get_figheight() > PAGE_HEIGHT else mpl.rcParams["savefig.dpi"])
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine(None)  # else matplotlib would lay it out for each format
    bounds = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in FORMATS]
    for path in paths:
        save(figure, path, bounds)
    return paths
