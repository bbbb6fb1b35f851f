"""Pictures of joint decoding: what stands in them is what stands in the tables."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specbench_s2d.analysis.report.plots import sweeps as plots_joint
from specbench_s2d.analysis.report.plots.draw import run_looks
from specbench_s2d.analysis.tables.series import PlotTables
from specbench_s2d.analysis.tables.summary import OVERALL, summary_table
from tests.analysis.factory import paper_run
from tests.analysis.report.joint import TAUS, joint_run, with_intervals

TARGETS = ("demo-s", "demo-l")
RUN = joint_run(1, targets=TARGETS)
TABLE = with_intervals(summary_table(RUN))
TABLES = PlotTables.of(RUN, TABLE)
BY_TAU = ("perplexity", "speedup", "mat")


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    figure.draw_without_rendering()
    return figure


def points(axes: Axes, marker: str) -> list[tuple[float, float]]:
    return [xy for line in axes.lines if line.get_marker() == marker for xy in map(tuple, line.get_xydata().tolist())]


def levels(axes: Axes) -> list[float]:
    return [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "None"]


def of(rows: pd.DataFrame, target: str, suite: str = OVERALL) -> pd.DataFrame:
    return rows[(rows["target"] == target) & (rows["suite"] == suite)]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_perplexity_by_k_beside_ar_with_intervals_and_the_beam_width() -> None:
    figure = drawn(plots_joint.ppl_k(TABLE, TABLES.by_k))
    assert [axes.get_title("left") for axes in figure.axes] == list(TARGETS)
    for target, axes in zip(TARGETS, figure.axes, strict=True):
        rows, alone = of(TABLES.by_k, target), of(TABLE[TABLE["label"] == "ar"], target)
        assert points(axes, "P") == list(zip([1, 2, 3, 4], rows["perplexity"], strict=True))
        bars = [tuple(bar.get_segments()[0][:, 1]) for bar in axes.collections]
        assert bars == list(zip(rows["perplexity_low"], rows["perplexity_high"], strict=True))
        assert levels(axes) == list(alone["perplexity"])
        assert axes.patches[0].get_extents().height > 0, "the band of AR's interval"
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3", "4"]
    assert legend(figure) == ["mjgd †", "ar"]
    assert "beam width 8" in figure.get_supxlabel()
    assert "lossy" in figure.get_supxlabel()


def test_rouge_by_k_has_three_curves_of_summaries_beside_ar_s() -> None:
    elsewhere = {
        column: TABLES.by_k[column].where(TABLES.by_k["suite"] == "summarization", 0.9) for column in plots_joint.ROUGE
    }
    figure = drawn(plots_joint.rouge_k(TABLE, TABLES.by_k.assign(**elsewhere)))
    rows = of(TABLES.by_k, "demo-s", "summarization")
    alone = of(TABLE[TABLE["label"] == "ar"], "demo-s", "summarization")
    curves = {line.get_linestyle(): line for line in figure.axes[0].lines if line.get_marker() == "P"}
    for column, kind in zip(plots_joint.ROUGE, ("-", "--", ":"), strict=True):
        assert list(curves[kind].get_ydata()) == list(rows[column])
    assert len({line.get_color() for line in curves.values()}) == 1, "one decoder has one colour"
    assert levels(figure.axes[0]) == [alone[column].item() for column in plots_joint.ROUGE]
    assert legend(figure)[:2] == ["ROUGE-1, mjgd †", "ROUGE-1, ar"]


@pytest.mark.parametrize("column", BY_TAU)
def test_by_tau_beside_ar_and_the_chain_of_the_same_length(column: str) -> None:
    figure = drawn(plots_joint.against_tau(TABLES, column))
    for target, axes in zip(TARGETS, figure.axes, strict=True):
        assert points(axes, "X") == list(zip(TAUS, of(TABLES.by_tau, target)[column], strict=True))
        beside = of(TABLE, target).set_index("label")[column]
        assert levels(axes) == [beside["ar"], beside["sd:gamma=4"]]
        low, high = axes.get_xlim()
        assert low <= 0 and high >= 1
    assert legend(figure) == ["mjsd †", "ar", "sd:gamma=4"]
    assert "γ = 4" in figure.get_supxlabel()


def test_without_a_chain_of_that_length_sd_stands_beside_as_it_comes() -> None:
    run = [r for r in RUN if r.label != "sd:gamma=4"]
    table = TABLE[TABLE["label"] != "sd:gamma=4"]
    tables = PlotTables.of(run, table)
    assert legend(drawn(plots_joint.against_tau(tables, "mat")))[-1] == "sd"


def test_two_variants_are_two_curves_side_by_side() -> None:
    other = TABLES.by_tau.assign(variant="mjsd:candidates=4", mat=TABLES.by_tau["mat"] + 1)
    figure = drawn(plots_joint.against_tau(replace(TABLES, by_tau=pd.concat([TABLES.by_tau, other])), "mat"))
    first, second = points(figure.axes[0], "X"), points(figure.axes[0], "<")
    assert legend(figure)[:2] == ["mjsd †", "mjsd:candidates=4 †"]
    assert [y + 1 for _, y in first] == [y for _, y in second]
    assert all(a < b for (a, _), (b, _) in zip(first, second, strict=True)), "their bars would cover each other"


def test_nothing_swept_or_scored_is_no_picture() -> None:
    records = paper_run()
    table = summary_table(records)
    none = PlotTables.of(records, table)
    assert plots_joint.ppl_k(table, none.by_k) is None
    assert plots_joint.rouge_k(table, none.by_k) is None
    assert all(plots_joint.against_tau(none, column) is None for column in BY_TAU)
    unscored = TABLES.by_k.drop(columns=[c for c in TABLES.by_k if c.startswith("quality_")])
    assert plots_joint.rouge_k(TABLE, unscored) is None
    assert plots_joint.ppl_k(TABLE, TABLES.by_k.assign(perplexity=float("nan"))) is None


@pytest.mark.parametrize("end", ["_low", "_high"])
def test_points_and_levels_without_an_interval_have_no_bar_and_no_band(end: str) -> None:
    """Of demo-s every interval lacks an end, of demo-l none."""
    gone = {t: t == "demo-s" for t in TARGETS}

    def without(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(**{f"perplexity{end}": rows[f"perplexity{end}"].where(~rows["target"].map(gone).eq(True))})

    figure = drawn(plots_joint.ppl_k(without(TABLE), without(TABLES.by_k)))
    assert [(len(axes.collections), len(axes.patches)) for axes in figure.axes] == [(0, 0), (4, 1)]
    assert "none where questions are too few" in figure.get_supxlabel()


def test_a_level_has_the_look_of_its_label() -> None:
    known = run_looks(TABLES)
    figure = drawn(plots_joint.against_tau(TABLES, "mat", known))
    shown = dict(zip(legend(figure), figure.legends[0].legend_handles, strict=True))
    assert shown["sd:gamma=4"].get_color() == known["sd:gamma=4"].colour
    assert shown["mjsd †"].get_color() == known["mjsd"].colour
