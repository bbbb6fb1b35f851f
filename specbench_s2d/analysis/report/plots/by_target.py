"""Plots of one draft for many targets: the radar of suites, the mean over targets, exits, thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.projections.polar import PolarAxes

from specbench_s2d.analysis.report.plots.style import (
    COLOURS,
    GREY,
    MARKERS,
    WIDTH,
    Look,
    Looks,
    bar,
    ends,
    footnote,
    from_zero,
    handles,
    interval_note,
    legend,
    legend_columns,
    shown_looks,
)  # fmt: skip
from specbench_s2d.analysis.tables.naming import row_title, suite_title
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, single_targets
from specbench_s2d.analysis.tables.text import with_interval
from specbench_s2d.runs.record import BASELINE

Shade = tuple[float, float, float, float]
_LEAST_SUITES = 3  # two points make no shape
_SHOWN_SHARE = 0.1  # below this a segment is too narrow for its number


def radar(table: pd.DataFrame, known: Looks | None = None) -> Figure | None:
    """Speed-up by suite as a shape, a panel per target, a line per decoder; None below three suites. `known`: the looks
    of the run's labels."""
    shown = single_targets(table)
    shown = shown[(shown["label"] != BASELINE) & (shown["suite"] != OVERALL) & shown["speedup"].notna()]
    suites, targets = (list(dict.fromkeys(shown[column])) for column in ("suite", "target"))
    if len(suites) < _LEAST_SUITES:
        return None
    looks = shown_looks(shown, known)
    figure, panels = _round_panels(len(targets), looks)
    for target, axes in zip(targets, panels, strict=True):
        _draw_radar(axes, shown[shown["target"] == target], suites, looks)
        axes.set_title(target, pad=28)  # above the name of the uppermost suite
    note = (
        f"Speed-up in decode tokens/s; dark circle: {BASELINE} = 1. Each panel has a scale of its own, from zero.\n"
        "Intervals: see the chart of speed-ups by suite."
    )
    footnote(figure, note, shown)
    return figure


def _round_panels(count: int, looks: dict[str, Look]) -> tuple[Figure, list[PolarAxes]]:
    """A figure of `count` polar panels, two abreast; the legend takes the spare place, if there is one."""
    columns = min(2, count)
    rows, spare = -(-count // columns), count % columns
    width = WIDTH if columns > 1 else 5
    room = 0.5 if spare else 0.8 + 0.2 * -(-len(looks) // legend_columns([k.title for k in looks.values()], width))
    figure = Figure(figsize=(width, 3.4 * rows + room), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, subplot_kw={"projection": "polar"})
    made: list[PolarAxes] = list(panels.flat)
    for unused in made[count:]:
        unused.remove()
    if spare:
        figure.legend(handles=handles(looks, True), loc="lower right", bbox_to_anchor=(1, 0.1), frameon=False,
                      handlelength=3.2, labelspacing=0.7)  # fmt: skip
    else:
        legend(figure, looks, lines=True)
    return figure, made[:count]


def _draw_radar(axes: PolarAxes, rows: pd.DataFrame, suites: Sequence[str], looks: dict[str, Look]) -> None:
    angles = [math.tau * i / len(suites) for i in range(len(suites))]
    for label, look in looks.items():
        line = rows[rows["label"] == label].set_index("suite")["speedup"].reindex(list(suites))
        axes.plot([*angles, angles[0]], [*line, line.iloc[0]], color=look.colour, linestyle=look.line, linewidth=1.1,
                  marker=look.marker, markersize=3.2, markerfacecolor=look.face)  # fmt: skip
    axes.plot([math.tau * i / 180 for i in range(181)], [1] * 181, color=GREY, linewidth=1.1, zorder=1)
    highest = max(1.0, rows["speedup"].max())
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_rlim(0, 1.06 * highest)
    axes.set_rlabel_position(180 / len(suites))
    axes.set_xticks(angles, [suite_title(s) for s in suites])
    for name, angle in zip(axes.get_xticklabels(), angles, strict=True):
        across = math.sin(angle)
        name.set_horizontalalignment("center" if abs(across) < 0.1 else "left" if across > 0 else "right")
    axes.tick_params(axis="x", pad=2)
    axes.tick_params(axis="y", labelsize=7.5, labelcolor=GREY)
    axes.spines["polar"].set_color("#BBBBBB")
    axes.grid(True, axis="both")


def mean_speedup(table: pd.DataFrame, known: Looks | None = None) -> Figure | None:
    """The mean over targets of each decoder's speed-up with 95 % intervals, in its colour: the lossless ones, highest
    on top, and below a line the lossy ones, hatched. None where a run has one target. `known`: the looks of the run's
    labels."""
    rows = table[(table["target"] == MEAN_TARGET) & (table["suite"] == OVERALL) & table["speedup"].notna()]
    shown = rows[rows["label"] != BASELINE].sort_values("speedup", kind="stable")
    shown = shown.sort_values("lossy", ascending=False, kind="stable")
    if shown.empty:
        return None
    looks = shown_looks(shown, known)
    figure = Figure(figsize=(WIDTH, 0.24 * len(shown) + 0.9), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(shown.to_dict("records")):
        bar(axes, place, row["speedup"], looks[row["label"]].colour, row["lossy"])
        if interval := ends(row, "speedup"):
            axes.hlines(place, *interval, color="black", linewidth=1.2)
        text = with_interval(row["speedup"], row["speedup_low"], row["speedup_high"], row["speedup_n"])
        axes.annotate(text, (1, place), xycoords=("axes fraction", "data"), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    _frame_bars(axes, shown)
    hatched = " Hatched: lossy." if shown["lossy"].any() else ""
    note = f"All suites together; {interval_note(shown, 'speedup', 'lines')}.{hatched}"
    footnote(figure, note, shown)
    return figure


def _frame_bars(axes: Axes, shown: pd.DataFrame) -> None:
    """The decoders' names, AR's line, and a line between the lossy below and the lossless above."""
    lossy = int(shown["lossy"].sum())
    if 0 < lossy < len(shown):
        axes.axhline(lossy - 0.5, color="#BBBBBB", linewidth=0.8)
    axes.axvline(1, color=GREY, linewidth=1, linestyle="--")
    names = [row_title(row) for row in shown.to_dict("records")]
    axes.set_yticks(range(len(shown)), names)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0, 1.03 * max(1.0, shown["speedup"].max(), shown["speedup_high"].fillna(1).max()))
    axes.set_xlabel(f"Speed-up (× {BASELINE}), mean over targets")


def exit_depths(exits: pd.DataFrame) -> Figure | None:
    """Share of the drafted tokens by the depth at which they left, a panel per target, a bar per decoder that chooses
    its exits; None where there is none."""
    if exits.empty:
        return None
    targets = list(dict.fromkeys(exits["target"]))
    rows = exits.drop_duplicates("label").to_dict("records")
    titles = {str(row["label"]): row_title(row) for row in rows}
    depths = sorted(set(exits["exit_depth"]))
    shades: dict[int, Shade] = {
        d: colormaps["Blues"](0.25 + 0.65 * i / max(1, len(depths) - 1)) for i, d in enumerate(depths)
    }
    columns = min(3, len(targets))
    lines = -(-len(targets) // columns)
    size = (WIDTH if columns > 1 else 5, (0.28 * len(titles) + 0.5) * lines + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat)
    for unused in panels[len(targets) :]:
        unused.remove()
    for target, axes in zip(targets, panels, strict=False):
        of_target = exits[exits["target"] == target]
        for place, label in enumerate(titles):
            _draw_shares(axes, place, of_target[of_target["label"] == label], shades)
        axes.set_title(target, loc="left")
        axes.set(xlim=(0, 1), ylim=(len(titles) - 0.5, -0.5))
        axes.set_yticks(range(len(titles)), list(titles.values()))
        axes.set_xticks([0.25, 0.5, 0.75], ["25 %", "50 %", "75 %"])
        axes.tick_params(axis="y", length=0)
        axes.grid(False)
    patches = [Patch(color=shades[d], label=f"exit after layer {d}") for d in depths]
    figure.legend(handles=patches, loc="outside upper left", ncols=len(depths), frameon=False)
    footnote(
        figure,
        "Share of all drafted tokens, by the layer of the draft after which they left; in per cent.",
        exits,
    )
    return figure


def _draw_shares(axes: Axes, place: int, rows: pd.DataFrame, shades: dict[int, Shade]) -> None:
    left = 0.0
    for row in rows.to_dict("records"):
        shade = shades[row["exit_depth"]]
        axes.barh(place, row["share"], left=left, height=0.74, color=shade)
        if row["share"] >= _SHOWN_SHARE:
            dark = sum(shade[:3]) < 1.6
            axes.text(left + row["share"] / 2, place, f"{100 * row['share']:.0f}", ha="center",
                      va="center", fontsize=7.5, color="white" if dark else "black")  # fmt: skip
        left += row["share"]


def thresholds(ablation: pd.DataFrame) -> Figure | None:
    """Speed-up and mean accepted tokens by threshold setting, a line per target and the mean over them; a row of
    panels per decoder that was run at several. None where none was."""
    if ablation.empty:
        return None
    variants, targets = (list(dict.fromkeys(ablation[column])) for column in ("variant", "target"))
    figure = Figure(figsize=(WIDTH, 2.3 * len(variants) + 0.9), layout="constrained")
    panels = figure.subplots(len(variants), 2, squeeze=False, sharex="row")
    looks = {t: _target_look(t, place) for place, t in enumerate(sorted(targets, key=MEAN_TARGET.__eq__))}
    for variant, (fast, deep) in zip(variants, panels, strict=True):
        rows = ablation[ablation["variant"] == variant]
        settings = list(dict.fromkeys(rows["thresholds"]))
        for place, (target, look) in enumerate(looks.items()):
            line = rows[rows["target"] == target].set_index("thresholds").reindex(settings)
            nudge = (place - (len(looks) - 1) / 2) * 0.06
            _draw_line(fast, line, "speedup", look, nudge)
            _draw_line(deep, line, "mat", look, nudge)
        for axes, what in ((fast, f"speed-up (× {BASELINE})"), (deep, "mean accepted tokens")):
            axes.set_title(f"{variant}: {what}", loc="left")
            axes.set_xticks(range(len(settings)), settings)
            axes.set_xlim(-0.4, len(settings) - 0.6)
            from_zero(axes, "y")
    figure.legend(handles=[_handle(look) for look in looks.values()], loc="outside upper left", ncols=len(looks),
                  frameon=False)  # fmt: skip
    intervals = interval_note(ablation, "speedup", "lines")
    footnote(
        figure,
        f"Across: confidence thresholds, one per exit. All suites together; of speed-ups, {intervals}.",
        ablation,
    )
    return figure


def _target_look(target: str, place: int) -> Look:
    """The mean over targets is black; the targets take the other colours in turn."""
    colour = COLOURS[-1] if target == MEAN_TARGET else COLOURS[place % (len(COLOURS) - 1)]
    return Look(target, colour, MARKERS[place % len(MARKERS)], "--" if target == MEAN_TARGET else "-", False)


def _handle(look: Look) -> Line2D:
    return Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.line, label=look.title)


def _draw_line(axes: Axes, rows: pd.DataFrame, column: str, look: Look, nudge: float) -> None:
    x = [place + nudge for place in range(len(rows))]
    axes.plot(
        x, rows[column], color=look.colour, marker=look.marker, markersize=4.5, linestyle=look.line, linewidth=1.2
    )
    for place, row in zip(x, rows.to_dict("records"), strict=True):
        if interval := ends(row, column):
            axes.vlines(place, *interval, color=look.colour, linewidth=1.2)
