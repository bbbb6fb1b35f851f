"""Pictures of the tidy tables, as PNG and SVG. Nothing is computed here: every point drawn stands in a table.

The same table gives the same SVG, byte for byte, with the same matplotlib. Other pictures are in
`plots_targets` (several targets at once), `plots_joint` and `plots_methods`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specbench_s2d.analysis.report.plots import by_target as plots_targets
from specbench_s2d.analysis.report.plots import sweeps as plots_joint
from specbench_s2d.analysis.report.plots import tradeoffs as plots_methods
from specbench_s2d.analysis.report.plots.by_target import MOST_SHAPES
from specbench_s2d.analysis.report.plots.style import (
    GREY,
    STYLE,
    WIDTH,
    Look,
    decoder_looks,
    footnote,
    legend,
    panels,
    save,
)
from specbench_s2d.analysis.tables.naming import suite_title
from specbench_s2d.analysis.tables.series import FigureTables
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL
from specbench_s2d.analysis.tables.text import projections
from specbench_s2d.runs.record import BASELINE

FORMATS = ("png", "svg")
FEWEST_REACHED = 20  # proposals that a drawn acceptance rate stands on


def draw_all(tables: FigureTables, folder: Path) -> list[Path]:
    """Write every picture that has anything to show into `folder`; returns the paths.

    `speedup`, `mat`, `acceptance`; of several targets `radar`, `mean_speedup`, `exit_depths`, `thresholds`
    (`plots_targets`); of joint decoding `ppl_k`, `rouge_k`, `ppl_tau`, `speed_tau`, `mat_tau` (`plots_joint`); of all
    methods `mat_gamma`, `speed_ppl`, `energy` (`plots_methods`).
    """
    written: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    with _style():
        for name, figure in _pictures(tables):
            written += _save(figure, folder / name, projections(tables.summary)) if figure else []
    return written


def _pictures(tables: FigureTables) -> Iterator[tuple[str, Figure | None]]:
    table, k, tau, gamma = tables.summary, tables.by_k, tables.by_tau, tables.equal_gamma
    yield "speedup", speedup(table)
    yield "mat", mean_accepted_tokens(table)
    yield "acceptance", acceptance(tables.positions)
    yield "radar", plots_targets.radar(table)
    yield "mean_speedup", plots_targets.mean_speedup(table)
    yield "exit_depths", plots_targets.exit_depths(tables.exits)
    yield "thresholds", plots_targets.thresholds(tables.thresholds)
    yield "ppl_k", plots_joint.ppl_k(table, k)
    yield "rouge_k", plots_joint.rouge_k(table, k)
    yield "ppl_tau", plots_joint.ppl_tau(table, tau, gamma)
    yield "speed_tau", plots_joint.speed_tau(table, tau, gamma)
    yield "mat_tau", plots_joint.mat_tau(table, tau, gamma)
    yield "mat_gamma", plots_methods.mat_gamma(gamma)
    yield "speed_ppl", plots_methods.speed_ppl(table, {"k": k, "tau": tau})
    yield "energy", plots_methods.energy(table)


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(STYLE):
        yield


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


def speedup(table: pd.DataFrame) -> Figure | None:
    """Speed-up by suite, a panel per target, with 95 % intervals; None where nothing was compared with AR."""
    shown = _single_targets(table)
    shown = shown[shown["speedup"].notna()]
    figure = _by_suite(shown, "speedup", f"Speed-up (× {BASELINE})", f"{BASELINE} = 1")
    if figure:
        footnote(figure, "Decode tokens/s over those of the same target alone; bars: 95 % intervals.", shown)
    return figure


def mean_accepted_tokens(table: pd.DataFrame) -> Figure | None:
    """Mean accepted tokens by suite, a panel per target, with 95 % intervals; None where no decoder but AR finished."""
    shown = _single_targets(table)
    shown = shown[shown["mat"].notna()]
    figure = _by_suite(shown, "mat", "Tokens per step", f"{BASELINE} = 1")
    if figure:
        footnote(
            figure, "Mean accepted tokens: emitted per step, the target's own included; bars: 95 % intervals.", shown
        )
    return figure


def _single_targets(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["label"] != BASELINE) & (table["target"] != MEAN_TARGET)]


def acceptance(positions: pd.DataFrame) -> Figure | None:
    """Acceptance rate by draft position over all suites, a panel per target; None where too little was drafted.

    Positions that fewer than `FEWEST_REACHED` proposals reached are left out: their rate says nothing.
    With one or two decoders there is room for the single suites too, as thin lines.
    """
    looks = decoder_looks(positions)
    shown = positions if len(looks) <= 2 else positions[positions["suite"] == OVERALL]
    shown = shown[shown["reached"] >= FEWEST_REACHED]
    if shown.empty:
        return None
    targets = list(dict.fromkeys(shown["target"]))
    crowded = len(looks) > MOST_SHAPES
    columns = 1 if crowded else min(3, len(targets))
    width = WIDTH if crowded or columns > 1 else 4.4
    figure, axes_of = panels(targets, [look.title for look in looks.values()], columns, width, height=2.4)
    for target, axes in zip(targets, axes_of, strict=True):
        for label, look in looks.items():
            _draw_positions(axes, shown[(shown["target"] == target) & (shown["label"] == label)], look)
        axes.set_title(target, loc="left")
        axes.set(xlabel="Draft position" if axes in axes_of[-columns:] else None, ylim=(0, 1.02))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.set_xticks(range(1, int(shown["position"].max()) + 1))
    figure.supylabel("Acceptance rate", fontsize=9)
    legend(figure, looks, lines=True)
    which = "All suites together" if len(looks) > 2 else "Thick: all suites together; thin: single suites"
    few = f"Positions reached fewer than {FEWEST_REACHED} times are left out."
    footnote(figure, f"Share accepted of the proposals that reached the position.\n{which}. {few}", shown)
    return figure


def _draw_positions(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    for suite, line in rows.groupby("suite", sort=False):
        overall = suite == OVERALL
        axes.plot(
            line["position"],
            line["rate"],
            color=look.colour,
            linestyle=look.line,
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
    looks = decoder_looks(shown)
    targets = list(dict.fromkeys(shown["target"]))
    seen = list(dict.fromkeys(s for s in shown["suite"] if s != OVERALL))
    suites = [*seen, OVERALL] if len(seen) > 1 else seen
    crowded = len(looks) > 6
    width = min(WIDTH, 3.2 + 0.9 * len(suites))
    figure, axes_of = panels(targets, [look.title for look in looks.values()], 1, width, height=2.3 if crowded else 1.8)
    for target, axes in zip(targets, axes_of, strict=True):
        axes.axhline(1, color=GREY, linewidth=1, linestyle="--", zorder=1)
        axes.annotate(reference, (1, 1), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
                      va="center", color=GREY, fontsize=8)  # fmt: skip
        for place, (label, look) in enumerate(looks.items()):
            rows = shown[(shown["target"] == target) & (shown["label"] == label)].set_index("suite")
            _draw_points(axes, rows, suites, column, look, _offset(place, len(looks)), 3.4 if crowded else 5.5)
        axes.set_title(target, loc="left")
        axes.set_xlim(-0.5, len(suites) - 0.5)
        axes.set_xticks(range(len(suites)), [suite_title(s) for s in suites])
        axes.tick_params(axis="x", length=0)
        for edge in range(1, len(suites)) if crowded else ():
            axes.axvline(edge - 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)
        if OVERALL in suites:
            axes.axvline(len(suites) - 1.5, color="#BBBBBB", linewidth=0.8)
    figure.supylabel(axis, fontsize=9)
    legend(figure, looks)
    return figure


def _offset(place: int, count: int) -> float:
    """Where a decoder stands within its suite's slot of width 1, the middle being 0."""
    return (place - (count - 1) / 2) * min(0.2, 0.86 / count)


def _draw_points(
    axes: Axes, rows: pd.DataFrame, suites: Sequence[str], column: str, look: Look, offset: float, size: float
) -> None:
    for x, suite in enumerate(suites):
        if suite not in rows.index:
            continue
        row = rows.loc[suite]
        low, high = f"{column}_low", f"{column}_high"
        if low in rows and pd.notna(row[low]):
            axes.vlines(x + offset, row[low], row[high], color=look.colour, linewidth=1.4 * size / 5.5, zorder=2)
        axes.plot(x + offset, row[column], color=look.colour, marker=look.marker, markersize=size,
                  markerfacecolor=look.face, zorder=3)  # fmt: skip
