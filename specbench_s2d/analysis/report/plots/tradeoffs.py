"""Plots of all methods at once: accepted length at equal draft length, the speed-perplexity plane, energy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specbench_s2d.analysis.report.plots.style import (
    GREY,
    WIDTH,
    Look,
    Looks,
    bar,
    ends,
    footnote,
    from_zero,
    handles,
    interval_note,
    legend_of,
    panels,
    shown_looks,
)
from specbench_s2d.analysis.tables.naming import option_symbol
from specbench_s2d.analysis.tables.summary import OVERALL, single_targets
from specbench_s2d.runs.record import BASELINE

_LINE = 0.22  # inches: one decoder's share of a panel's height


def mat_gamma(equal_gamma: pd.DataFrame, known: Looks | None = None) -> Figure | None:
    """Mean accepted tokens of decoders that share a draft length, a panel per target, a line per decoder with its 95 %
    interval; None where no two share one. `known`: the looks of the run's labels."""
    rows = single_targets(equal_gamma, OVERALL)
    rows = rows[rows["mat"].notna()]
    if rows.empty:
        return None
    looks = shown_looks(rows, known)
    places: dict[str, int] = {}
    names: list[str] = []
    for gamma, of_gamma in rows.groupby("gamma"):
        names.append(f"{option_symbol('gamma')} = {gamma:g}")
        for label in dict.fromkeys(of_gamma["label"]):
            places[label] = len(names)
            names.append(looks[label].title)
    figure, panel_of = _lines(rows, names)
    for target, axes in panel_of.items():
        axes.axvline(1, color=GREY, linewidth=1, linestyle="--")
        for row in rows[rows["target"] == target].to_dict("records"):
            _draw_across(axes, row, "mat", places[row["label"]], looks[row["label"]])
        axes.set_xlabel("Tokens per step")
        axes.margins(x=0.06)
        from_zero(axes, "x")
    for tick in panel_of[next(iter(panel_of))].get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() not in {k.title for k in looks.values()} else "normal")
    text = "Mean accepted tokens: emitted per step, the target's own included, all suites together"
    deep = f"{option_symbol('gamma')}: how deep a proposal is (a tree has more tokens)."
    footnote(figure, f"{text}; {interval_note(rows, 'mat')}.\n{deep} Dashed: {BASELINE} = 1.", rows)
    return figure


def energy(table: pd.DataFrame, known: Looks | None = None) -> Figure | None:
    """Energy per token of each decoder as bars, a panel per target, AR's as a line across; None where nothing was
    metered. `known`: the looks of the run's labels."""
    rows = single_targets(table, OVERALL)
    rows = rows[rows["energy_j_per_token"].notna()]
    if rows[rows["label"] != BASELINE].empty:
        return None
    looks = shown_looks(rows, known)
    places = {label: place for place, label in enumerate(looks)}
    figure, panel_of = _lines(rows, [look.title for look in looks.values()])
    for target, axes in panel_of.items():
        for row in rows[rows["target"] == target].to_dict("records"):
            look = looks[row["label"]]
            bar(axes, places[row["label"]], row["energy_j_per_token"], look.colour, look.lossy)
            if row["label"] == BASELINE:
                axes.axvline(row["energy_j_per_token"], color=GREY, linewidth=1, linestyle="--")
        axes.set_xlabel("Energy (J/token)")
        axes.grid(False, axis="y")
    footnote(figure, f"Joules per new token, all suites together. Dashed: {BASELINE}. Hatched: lossy.", rows)
    return figure


def _lines(rows: pd.DataFrame, names: Sequence[str]) -> tuple[Figure, dict[str, Axes]]:
    """A panel per target with one line of text per name, the first on top."""
    targets = list(dict.fromkeys(rows["target"]))
    columns = min(3, len(targets))
    figure, made = panels(targets, [], columns, WIDTH if columns > 1 else 5, _LINE * len(names) + 0.6)
    for target, axes in zip(targets, made, strict=True):
        axes.set_title(target, loc="left")
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks(range(len(names)), list(names))
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
    return figure, dict(zip(targets, made, strict=True))


def _draw_across(axes: Axes, row: dict[Hashable, Any], column: str, place: int, look: Look) -> None:
    if interval := ends(row, column):
        axes.hlines(place, *interval, color=look.colour, linewidth=1.6, zorder=2)
    axes.plot(row[column], place, color=look.colour, marker=look.marker, markersize=5.5, markerfacecolor=look.face,
              zorder=3)  # fmt: skip


def speed_ppl(table: pd.DataFrame, sweeps: Mapping[str, pd.DataFrame], known: Looks | None = None) -> Figure | None:
    """The speed-perplexity plane, a panel per target: a point per decoder with both 95 % intervals, and AR's perplexity
    as the line that lossless ones lie on. None where no lossy decoder has both values: the plane would be that line.

    `sweeps`: by option, tables of `sweeps.sweep`; their decoders are joined in the order of the option. `known`: the
    looks of the run's labels and of its sweeps.
    """
    rows = single_targets(table, OVERALL)
    rows = rows[rows["speedup"].notna() & rows["perplexity"].notna()]
    if not rows["lossy"].any():
        return None
    swept = {option: rows_of[rows_of["label"].isin(rows["label"])] for option, rows_of in sweeps.items()}
    names = {row["label"]: row["variant"] for part in swept.values() for row in part.to_dict("records")}
    looks = shown_looks(rows.assign(label=rows["label"].map(lambda label: names.get(label, label))), known)
    targets = list(dict.fromkeys(rows["target"]))
    figure, made = panels(targets, [k.title for k in looks.values()], 1, WIDTH, 2.9, sharey=False)
    for target, axes in zip(targets, made, strict=True):
        of_target = rows[rows["target"] == target]
        for row in of_target.to_dict("records"):
            _draw_cross(axes, row, looks[names.get(row["label"], row["label"])])
        for option, part in swept.items():
            for variant, line in single_targets(part[part["target"] == target], OVERALL).groupby("variant", sort=False):
                _join(axes, line, looks[str(variant)], option_symbol(option))
        axes.margins(x=0.08)
        _frame_plane(axes, of_target)
        axes.set_title(target, loc="left")
    made[-1].set_xlabel(f"Speed-up (× {BASELINE})")
    figure.supylabel("Perplexity", fontsize=9)
    legend_of(figure, handles(looks))
    note = (
        "Decode tokens/s and perplexity of the output under the target, all suites together;\n"
        f"{interval_note(rows, 'speedup', 'crosses')}; differences: compare --against."
    )
    footnote(
        figure, f"{note}\nDashed: {BASELINE}'s perplexity and speed. Thin lines join one decoder's settings.", rows
    )
    return figure


def _draw_cross(axes: Axes, row: dict[Hashable, Any], look: Look) -> None:
    x, y = row["speedup"], row["perplexity"]
    faint: dict[str, Any] = {"color": look.colour, "linewidth": 0.9, "alpha": 0.55, "zorder": 2}
    if interval := ends(row, "speedup"):
        axes.hlines(y, *interval, **faint)
    if interval := ends(row, "perplexity"):
        axes.vlines(x, *interval, **faint)
    axes.plot(x, y, color=look.colour, marker=look.marker, markersize=5.5, markerfacecolor=look.face, zorder=4)


def _join(axes: Axes, line: pd.DataFrame, look: Look, symbol: str) -> None:
    """A thin line through one decoder's settings in the order of the option, the first and the last by name, on the
    outer side of the line."""
    axes.plot(line["speedup"], line["perplexity"], color=look.colour, linewidth=0.9, zorder=3)
    first, last = line.iloc[0], line.iloc[-1]
    for end, other in ((first, last), (last, first)):
        right, above = (end[column] >= other[column] for column in ("speedup", "perplexity"))
        axes.annotate(
            f"{symbol} = {end['value']:g}", (end["speedup"], end["perplexity"]),
            xytext=(5 if right else -5, 4 if above else -4), textcoords="offset points",
            ha="left" if right else "right", va="bottom" if above else "top", fontsize=8, color=look.colour,
            path_effects=[patheffects.withStroke(linewidth=2, foreground="white")], zorder=5,
        )  # fmt: skip


def _frame_plane(axes: Axes, rows: pd.DataFrame) -> None:
    """AR's lines, and which corner is better, with room for saying so below the lowest point."""
    for row in rows[rows["label"] == BASELINE].to_dict("records"):
        axes.axhline(row["perplexity"], color=GREY, linewidth=1, linestyle="--", zorder=1)
        axes.axvline(row["speedup"], color=GREY, linewidth=1, linestyle="--", zorder=1)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.1 * (high - low), high)
    from_zero(axes, "x")
    from_zero(axes, "y")
    axes.text(0.995, 0.02, "better: faster →, lower perplexity ↓", transform=axes.transAxes, ha="right", va="bottom",
              fontsize=8, fontstyle="italic", color=GREY)  # fmt: skip
    axes.grid(True, axis="both")
