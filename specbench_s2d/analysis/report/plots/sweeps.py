"""Plots of joint decoding: perplexity, quality, speed and accepted length against one option (k, tau).

Curves come from `series.sweep`, the levels they are read against from the summary table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specbench_s2d.analysis.report.plots.style import (
    LINES,
    METHOD_COLOURS,
    WIDTH,
    Look,
    Looks,
    ends,
    footnote,
    from_zero,
    interval_note,
    legend_of,
    panels,
    shown_looks,
)
from specbench_s2d.analysis.tables.naming import option_symbol, suite_title
from specbench_s2d.analysis.tables.series import PlotTables
from specbench_s2d.analysis.tables.summary import OVERALL, single_targets
from specbench_s2d.runs.record import BASELINE

ROUGE = {"quality_rouge_1": "ROUGE-1", "quality_rouge_2": "ROUGE-2", "quality_rouge_l": "ROUGE-L"}
ROUGE_SUITE = "summarization"
CHAIN = "sd"
_K_AXIS = "k, tokens chosen together"
_TAU_AXIS = f"{option_symbol('tau')}, threshold of acceptance"


@dataclass(frozen=True)
class _Curve:
    """One column of some rows: points against `value`, or, where the rows have none, a level per target.

    A broad level is seen under another that it coincides with.
    """

    look: Look
    rows: pd.DataFrame
    column: str
    broad: bool = False

    @property
    def is_level(self) -> bool:
        return "value" not in self.rows

    @property
    def stroke(self) -> dict[str, Any]:
        """Colour, width and kind of the line."""
        width, alpha = (3, 0.4) if self.broad else (0.9 if self.is_level else 1.4, 1)
        return {"color": self.look.colour, "linestyle": self.look.line, "linewidth": width, "alpha": alpha}


def ppl_k(table: pd.DataFrame, sweep: pd.DataFrame, known: Looks | None = None) -> Figure | None:
    """Perplexity under the target against k, a panel per target, with AR's; None where k was not swept. `known`: the
    looks of the run's labels and of its sweeps."""
    rows = single_targets(sweep, OVERALL)
    curves = [*_variants(rows, "perplexity", known), *_alone(table, "perplexity")]
    figure = _draw(curves, _K_AXIS, "Perplexity", list(rows["value"]), sharey=False)
    return _noted(figure, "Perplexity of the output under the target, all suites together.", rows, "perplexity")


def rouge_k(table: pd.DataFrame, sweep: pd.DataFrame, known: Looks | None = None) -> Figure | None:
    """ROUGE-1, -2 and -L of summarization against k, a panel per target, a kind of line each, with AR's as thin lines;
    None where k was not swept or no summary was scored. `known`: as for `ppl_k`."""
    rows, alone = single_targets(sweep, ROUGE_SUITE), _labelled(table, BASELINE, ROUGE_SUITE)
    curves = []
    for (column, title), line in zip(ROUGE.items(), LINES, strict=False):
        for curve in _variants(rows, column, known):
            curves.append(replace(curve, look=replace(curve.look, title=f"{title}, {curve.look.title}", line=line)))
        curves.append(
            _Curve(Look(f"{title}, {BASELINE}", METHOD_COLOURS[BASELINE], "", line, lossy=False), alone, column)
        )
    figure = _draw(curves, _K_AXIS, "ROUGE (F-measure)", list(rows["value"]), sharey=False)
    return _noted(figure, f"Suite: {suite_title(ROUGE_SUITE)}.", rows, next(iter(ROUGE)))


_AGAINST_TAU = {
    "perplexity": ("Perplexity", "Perplexity of the output under the target"),
    "speedup": (f"Speed-up (× {BASELINE})", "Decode tokens/s over those of the same target alone"),
    "mat": ("Tokens per step", "Mean accepted tokens: emitted per step, the target's own included"),
}
"""The axis and the note of each value that `against_tau` draws."""


def against_tau(
    tables: PlotTables, column: Literal["perplexity", "speedup", "mat"], known: Looks | None = None
) -> Figure | None:
    """A value against tau, a panel per target, with AR's and SD's; None where tau was not swept. `known`: as for
    `ppl_k`."""
    axis, note = _AGAINST_TAU[column]
    rows = single_targets(tables.by_tau, OVERALL)
    levels = [*_alone(tables.summary, column), *_chains(tables.summary, tables.equal_gamma, rows, column, known)]
    ticks, sharey = [0, 0.25, 0.5, 0.75, 1], column != "perplexity"
    figure = _draw([*_variants(rows, column, known), *levels], _TAU_AXIS, axis, ticks, sharey)
    return _noted(figure, f"{note}, all suites together.", rows, column)


def _labelled(table: pd.DataFrame, label: str, suite: str = OVERALL) -> pd.DataFrame:
    return table[(table["label"] == label) & (table["suite"] == suite)]


def _variants(rows: pd.DataFrame, column: str, known: Looks | None) -> list[_Curve]:
    """A curve for each variant of the sweep."""
    looks = shown_looks(rows.assign(label=rows["variant"]), known)
    return [_Curve(look, rows[rows["variant"] == variant], column) for variant, look in looks.items()]


def _alone(table: pd.DataFrame, column: str) -> list[_Curve]:
    """The level of the target alone."""
    look = Look(BASELINE, METHOD_COLOURS[BASELINE], "", "--", lossy=False)
    return [_Curve(look, _labelled(table, BASELINE), column)]


def _chains(
    table: pd.DataFrame, equal_gamma: pd.DataFrame, rows: pd.DataFrame, column: str, known: Looks | None
) -> list[_Curve]:
    """The level of SD at each draft length of `rows`; where none was run, of SD as it comes."""
    chains = equal_gamma[(equal_gamma["decoder"] == CHAIN) & equal_gamma["gamma"].isin(rows["gamma"])]
    plainest = [min(of_gamma, key=len) for _, of_gamma in chains.groupby("gamma")["label"]]
    levels = {label: _labelled(table, label) for label in plainest or [CHAIN]}
    there = {label: level for label, level in levels.items() if len(level)}
    looks = {label: shown_looks(level, known)[label] for label, level in there.items()}
    return [_Curve(replace(looks[label], marker=""), level, column, broad=True) for label, level in there.items()]


def _draw(curves: Sequence[_Curve], x: str, y: str, ticks: Sequence[float], sharey: bool) -> Figure | None:
    """A panel per target with the curves, and the levels across it; None where no curve has a point."""
    known = [c for c in curves if c.column in c.rows and c.rows[c.column].notna().any()]
    targets = list(dict.fromkeys(t for c in known if not c.is_level for t in c.rows["target"]))
    if not targets:
        return None
    columns = min(3, len(targets))
    titles = [curve.look.title for curve in known]
    figure, axes_of = panels(targets, titles, columns, WIDTH if columns > 1 else 4.4, 2.5, sharey)
    points = [curve for curve in known if not curve.is_level]
    step = 0.02 * (max(ticks) - min(ticks))
    for target, axes in zip(targets, axes_of, strict=True):
        for curve in known:
            rows = curve.rows[curve.rows["target"] == target]
            if curve.is_level:
                _draw_level(axes, rows, curve)
            else:
                _draw_points(axes, rows, curve, step * (points.index(curve) - (len(points) - 1) / 2))
        axes.set_title(target, loc="left")
        axes.set_xlabel(x)
        axes.set_xticks(sorted(set(ticks)), [f"{tick:g}" for tick in sorted(set(ticks))])
        axes.set_xlim(min(ticks) - 3 * step, max(ticks) + 3 * step)
        from_zero(axes, "y")
    figure.supylabel(y, fontsize=9)
    legend_of(figure, [_handle(curve) for curve in known], 3.2)
    return figure


def _draw_points(axes: Axes, rows: pd.DataFrame, curve: _Curve, nudge: float) -> None:
    look, x = curve.look, rows["value"] + nudge
    for place, row in zip(x, rows.to_dict("records"), strict=True):
        if interval := ends(row, curve.column):
            axes.vlines(place, *interval, color=look.colour, linewidth=1.2, zorder=3)
    axes.plot(x, rows[curve.column], marker=look.marker, markersize=5, markerfacecolor=look.face, zorder=4,
              **curve.stroke)  # fmt: skip


def _draw_level(axes: Axes, rows: pd.DataFrame, curve: _Curve) -> None:
    for row in rows[rows[curve.column].notna()].to_dict("records"):
        interval = ends(row, curve.column)
        if interval and interval[0] < interval[1]:
            axes.axhspan(*interval, color=curve.look.colour, alpha=0.1, linewidth=0, zorder=1)
        axes.axhline(row[curve.column], **curve.stroke, zorder=1.5 if curve.broad else 2)


def _handle(curve: _Curve) -> Line2D:
    look = curve.look
    return Line2D([], [], **curve.stroke, marker=look.marker, markerfacecolor=look.face, label=look.title)


def _noted(figure: Figure | None, text: str, rows: pd.DataFrame, column: str) -> Figure | None:
    if figure:
        intervals = interval_note(rows, column, "Bars and bands").capitalize()
        footnote(figure, f"{text}\n{intervals}; differences: compare --against. {_settings(rows)}", rows)
    return figure


def _settings(rows: pd.DataFrame) -> str:
    """Draft length and beam width of each variant, where it has them."""
    parts = []
    names = {"gamma": f"{option_symbol('gamma')} =", "beams": "beam width"}
    for row in rows.drop_duplicates("variant").to_dict("records"):
        known = [f"{name} {row[column]:g}" for column, name in names.items() if pd.notna(row[column])]
        parts += [f"{row['variant']}: {', '.join(known)}"] if known else []
    return "; ".join(parts) + "." if parts else ""
