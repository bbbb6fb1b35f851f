"""Every plot of a run, as PNG and SVG. Nothing is computed in this package: every point drawn stands in a table.

The same tables give the same SVG, byte for byte, with the same matplotlib.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from specbench_s2d.analysis.report.plots import by_suite, by_target, sweeps, tradeoffs
from specbench_s2d.analysis.report.plots.style import STYLE, save
from specbench_s2d.analysis.tables.remarks import projections
from specbench_s2d.analysis.tables.series import PlotTables

FORMATS = ("png", "svg")


@dataclass(frozen=True)
class Plot:
    """The name of its file, what it is called, and how it is drawn: None where the tables give nothing to show."""

    name: str
    title: str
    draw: Callable[[PlotTables], Figure | None]


PLOTS = (
    Plot("speedup", "Speed-up by suite", lambda t: by_suite.by_suite(t.summary, "speedup")),
    Plot("mat", "Mean accepted tokens by suite", lambda t: by_suite.by_suite(t.summary, "mat")),
    Plot("acceptance", "Acceptance rate by draft position", lambda t: by_suite.acceptance(t.positions)),
    Plot("radar", "Speed-up by suite, all decoders", lambda t: by_target.radar(t.summary)),
    Plot("mean_speedup", "Mean speed-up over targets", lambda t: by_target.mean_speedup(t.summary)),
    Plot("exit_depths", "Where drafted tokens leave the draft", lambda t: by_target.exit_depths(t.exits)),
    Plot("thresholds", "Speed-up by confidence thresholds", lambda t: by_target.thresholds(t.thresholds)),
    Plot("ppl_k", "Perplexity by k", lambda t: sweeps.ppl_k(t.summary, t.by_k)),
    Plot("rouge_k", "Task quality by k", lambda t: sweeps.rouge_k(t.summary, t.by_k)),
    Plot("ppl_tau", "Perplexity by τ", lambda t: sweeps.against_tau(t, "perplexity")),
    Plot("speed_tau", "Speed-up by τ", lambda t: sweeps.against_tau(t, "speedup")),
    Plot("mat_tau", "Mean accepted tokens by τ", lambda t: sweeps.against_tau(t, "mat")),
    Plot("mat_gamma", "Mean accepted tokens at equal γ", lambda t: tradeoffs.mat_gamma(t.equal_gamma)),
    Plot(
        "speed_ppl", "Speed-up and perplexity", lambda t: tradeoffs.speed_ppl(t.summary, {"k": t.by_k, "tau": t.by_tau})
    ),
    Plot("energy", "Energy", lambda t: tradeoffs.energy(t.summary)),
)


def draw_all(tables: PlotTables, folder: Path) -> list[Path]:
    """Write every plot that has anything to show into `folder`; returns the paths."""
    written: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for plot in PLOTS:
            figure = plot.draw(tables)
            written += _save(figure, folder / plot.name, projections(tables.summary)) if figure else []
    return written


def _save(figure: Figure, stem: Path, title: Sequence[str]) -> list[Path]:
    """Lay out once, then write every format; projections stand in the title."""
    if title:
        figure.suptitle("\n".join(textwrap.fill(line, 110) for line in title), fontsize=7.5, x=0.01, ha="left")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    paths = [stem.with_suffix(f".{suffix}") for suffix in FORMATS]
    for path in paths:
        save(figure, path)
    return paths
