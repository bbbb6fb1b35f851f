"""Plots by suite: speed-up, mean accepted tokens, and the acceptance rate by draft position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specbench_s2d.analysis.report.plots.style import (
    GREY,
    WIDTH,
    Look,
    Looks,
    ends,
    footnote,
    from_zero,
    interval_note,
    legend,
    panels,
    shown_looks,
)
from specbench_s2d.analysis.tables.naming import suite_title
from specbench_s2d.analysis.tables.summary import OVERALL, single_targets
from specbench_s2d.runs.record import BASELINE

_BESIDE_AXES, _CHARACTER = 0.9, 0.07  # inches: of a figure beside its panel, and of a letter with its share of space
MOST_LINES = 12  # more than these cannot be told apart in a small panel
FEWEST_REACHED = 20  # proposals that a drawn acceptance rate stands on
_SHOWN = {
    "speedup": (f"Speed-up (× {BASELINE})", "Decode tokens/s over those of the same target alone"),
    "speedup_e2e": (f"Speed-up (× {BASELINE})", "Tokens/s with the prefill over those of the same target alone"),
    "mat": ("Tokens per step", "Mean accepted tokens: emitted per step, the target's own included"),
}
"""The axis and the note of each value that `by_suite` draws."""


def by_suite(table: pd.DataFrame, column: str, known: Looks | None = None) -> Figure | None:
    """A value by suite with its 95 % intervals, a panel per target: suites along x, decoders side by side within a
    suite. None where no decoder but AR has it. `known`: the looks of the run's labels."""
    shown = single_targets(table)
    shown = shown[(shown["label"] != BASELINE) & shown[column].notna()]
    if shown.empty:
        return None
    looks = shown_looks(shown, known)
    targets = list(dict.fromkeys(shown["target"]))
    seen = list(dict.fromkeys(s for s in shown["suite"] if s != OVERALL))
    suites = [*seen, OVERALL] if len(seen) > 1 else seen
    crowded = len(looks) > 6
    width = min(WIDTH, 3.2 + 0.9 * len(suites))
    figure, axes_of = panels(targets, [look.title for look in looks.values()], 1, width, height=2.3 if crowded else 1.8)
    wanted = [name for name in ("suite", column, f"{column}_low", f"{column}_high") if name in shown]
    rows_of = {key: rows[wanted].to_dict("records") for key, rows in shown.groupby(["target", "label"])}
    for target, axes in zip(targets, axes_of, strict=True):
        axes.axhline(1, color=GREY, linewidth=1, linestyle="--", zorder=1)
        axes.annotate(f"{BASELINE} = 1", (1, 1), xycoords=("axes fraction", "data"), xytext=(3, 0),
                      textcoords="offset points", va="center", color=GREY, fontsize=8)  # fmt: skip
        for place, (label, look) in enumerate(looks.items()):
            rows = {str(row["suite"]): row for row in rows_of.get((target, label), ())}
            _draw_points(axes, rows, suites, column, look, _offset(place, len(looks)), 3.4 if crowded else 5.5)
        axes.set_title(target, loc="left")
        axes.set_xlim(-0.5, len(suites) - 0.5)
        titles = [suite_title(s) for s in suites]
        axes.set_xticks(range(len(suites)), titles)
        for name in axes.get_xticklabels() if _collide(titles, width) else ():
            name.set(rotation=25, horizontalalignment="right", rotation_mode="anchor")
        axes.tick_params(axis="x", length=0)
        for edge in range(1, len(suites)) if crowded else ():
            axes.axvline(edge - 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)
        if OVERALL in suites:
            axes.axvline(len(suites) - 1.5, color="#BBBBBB", linewidth=0.8)
    for axes in axes_of:
        from_zero(axes, "y")
    axis, note = _SHOWN[column]
    figure.supylabel(axis, fontsize=9)
    legend(figure, looks)
    footnote(figure, f"{note}; {interval_note(shown, column)}.", shown)
    return figure


def acceptance(positions: pd.DataFrame, known: Looks | None = None) -> Figure | None:
    """Acceptance rate by draft position over all suites, a panel per target; None where too little was drafted.

    Positions that fewer than `FEWEST_REACHED` proposals reached are left out: their rate says nothing.
    With one or two decoders there is room for the single suites too, as thin lines.
    """
    looks = shown_looks(positions, known)
    shown = positions if len(looks) <= 2 else positions[positions["suite"] == OVERALL]
    shown = shown[shown["reached"] >= FEWEST_REACHED]
    if shown.empty:
        return None
    targets = list(dict.fromkeys(shown["target"]))
    crowded = len(looks) > MOST_LINES
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


def _offset(place: int, count: int) -> float:
    """Where a decoder stands within its suite's slot of width 1, the middle being 0."""
    return (place - (count - 1) / 2) * min(0.2, 0.86 / count)


def _collide(titles: Sequence[str], width: float) -> bool:
    """Whether two of these names would touch side by side along an axis in a figure of `width` inches."""
    room = (width - _BESIDE_AXES) / len(titles) / _CHARACTER
    return any(len(one) + len(other) > 2 * room for one, other in pairwise(titles))


def _draw_points(
    axes: Axes,
    rows: Mapping[str, Mapping[Any, Any]],
    suites: Sequence[str],
    column: str,
    look: Look,
    offset: float,
    size: float,
) -> None:
    placed = [(x + offset, rows[suite]) for x, suite in enumerate(suites) if suite in rows]
    bars = [(x, *interval) for x, row in placed if (interval := ends(row, column))]
    if bars:
        axes.vlines(*zip(*bars, strict=True), color=look.colour, linewidth=1.4 * size / 5.5, zorder=2)
    axes.plot([x for x, _ in placed], [row[column] for _, row in placed], color=look.colour, marker=look.marker,
              markersize=size, markerfacecolor=look.face, linestyle="none", zorder=3)  # fmt: skip
