"""What lossy decoders do to the text, beside the tokens that they accept: perplexity, quality and repetition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    handles,
    interval_note,
    legend_columns,
    legend_of,
    shown_looks,
)
from specbench_s2d.analysis.tables.summary import OVERALL, single_targets
from specbench_s2d.runs.record import BASELINE


@dataclass(frozen=True)
class Value:
    """A column of the summary, the suite whose rows it is read from, and what its axis says."""

    column: str
    suite: str
    title: str


VALUES = (
    Value("perplexity", OVERALL, "Perplexity"),
    Value("quality_rouge_l", "summarization", "ROUGE-L, summaries"),
    Value("quality_f1", "qa", "F1, QA"),
    Value("distinct_2", OVERALL, "distinct-2"),
)
_HEIGHT = 2.4  # inches of a panel


def lossy(table: pd.DataFrame, sweeps: Mapping[str, pd.DataFrame], known: Looks | None = None) -> Figure | None:
    """A row of panels per target, one for each of `VALUES` that the run has, over mean accepted tokens: a point per
    lossy decoder with the value's 95 % interval, and AR's value as a line. None for fewer than two lossy decoders.

    `sweeps`, `known`: as in `tradeoffs.speed_ppl`.
    """
    lengths = single_targets(table, OVERALL)
    lengths = lengths[lengths["lossy"] & lengths["mat"].notna()]
    shown = [value for value in VALUES if not _points(table, lengths, value).empty]
    if lengths["label"].nunique() < 2 or not shown:
        return None
    swept = [part[part["label"].isin(lengths["label"]) & (part["suite"] == OVERALL)] for part in sweeps.values()]
    names = {row["label"]: str(row["variant"]) for part in swept for row in part.to_dict("records")}
    looks = shown_looks(lengths.assign(label=lengths["label"].map(lambda label: names.get(label, label))), known)
    targets = list(dict.fromkeys(lengths["target"]))
    figure, made = _panels(len(targets), len(shown), [look.title for look in looks.values()])
    for target, of_target in zip(targets, made, strict=True):
        for axes, value in zip(of_target, shown, strict=False):
            points = _points(table, lengths[lengths["target"] == target], value)
            _draw(axes, points, value.column, looks, names)
            _join(axes, points, value.column, looks, [part[part["target"] == target] for part in swept])
            _frame(axes, table[(table["target"] == target) & (table["suite"] == value.suite)], value)
        of_target[0].set_title(target, loc="left")
    legend_of(figure, handles(looks))
    note = interval_note(_points(table, lengths, shown[0]), shown[0].column)
    footnote(
        figure,
        f"Lossy decoders over mean accepted tokens (emitted per step, all suites together); {note}.\n"
        f"Dashed: {BASELINE}. Thin lines join one decoder's settings. At equal length, lower perplexity with lower "
        "distinct-2 is, in part, repetition.",
        lengths,
    )
    return figure


def _points(table: pd.DataFrame, lengths: pd.DataFrame, value: Value) -> pd.DataFrame:
    """The rows of a value that is there, with each decoder's `length`, its mean accepted tokens over all suites."""
    if value.column not in table:
        return lengths[:0]
    rows = single_targets(table, value.suite).merge(
        lengths[["target", "label", "mat"]].rename(columns={"mat": "length"}), on=["target", "label"]
    )
    return rows[rows[value.column].notna()]


def _panels(targets: int, values: int, titles: list[str]) -> tuple[Figure, list[list[Axes]]]:
    """A figure with the panels of each target: in one row, or in rows of two where there is one target."""
    columns = 2 if targets == 1 else values
    rows = -(-values // columns) * targets
    room = 0.2 * -(-len(titles) // legend_columns(titles, WIDTH)) + 0.6
    figure = Figure(figsize=(WIDTH, _HEIGHT * rows + room), layout="constrained")
    made: list[Axes] = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for unused in made[targets * values :]:
        unused.remove()
    return figure, [made[i * values : (i + 1) * values] for i in range(targets)]


def _draw(axes: Axes, points: pd.DataFrame, column: str, looks: Mapping[str, Look], names: Mapping[str, str]) -> None:
    for row in points.to_dict("records"):
        look = looks[names.get(row["label"], row["label"])]
        if interval := ends(row, column):
            axes.vlines(row["length"], *interval, color=look.colour, linewidth=0.9, alpha=0.55, zorder=2)
        axes.plot(row["length"], row[column], color=look.colour, marker=look.marker, markersize=5,
                  markerfacecolor=look.face, zorder=4)  # fmt: skip


def _join(axes: Axes, points: pd.DataFrame, column: str, looks: Mapping[str, Look], swept: list[pd.DataFrame]) -> None:
    """A thin line through one decoder's settings, in the order of its option."""
    of_label = points.set_index("label")
    for part in swept:
        for variant, line in part.groupby("variant", sort=False):
            joined = of_label.loc[[label for label in line["label"] if label in of_label.index]]
            axes.plot(joined["length"], joined[column], color=looks[str(variant)].colour, linewidth=0.9, zorder=3)


def _frame(axes: Axes, rows: pd.DataFrame, value: Value) -> None:
    for alone in rows[rows["label"] == BASELINE][value.column].dropna():
        axes.axhline(alone, color=GREY, linewidth=1, linestyle="--", zorder=1)
    axes.margins(x=0.1)
    from_zero(axes, "y")
    axes.tick_params(labelbottom=True)
    axes.set_ylabel(value.title)
    axes.set_xlabel("Tokens per step")
    axes.grid(True, axis="both")
