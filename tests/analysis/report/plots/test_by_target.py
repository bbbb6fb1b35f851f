"""Pictures of one draft for many targets: what stands in them is what stands in the tables."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from specbench_s2d.analysis.report.plots import by_target as plots_targets
from specbench_s2d.analysis.report.plots import draw
from specbench_s2d.analysis.report.plots.style import decoder_looks
from specbench_s2d.analysis.tables.series import PlotTables, exit_depths, threshold_ablation
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, summary_table
from specbench_s2d.config import SUITES
from tests.analysis.factory import paper_run
from tests.analysis.report.grid import LANES, TARGETS, grid_run

pytestmark = pytest.mark.usefixtures("pictures")

RUN = grid_run(2)
TABLE = summary_table(RUN)
EXITS, ABLATION = exit_depths(RUN), threshold_ablation(RUN, TABLE)


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    figure.draw_without_rendering()
    return figure


def test_a_run_of_the_grid_has_every_picture() -> None:
    by_family = {f"{name}{f}" for name in ("speedup", "mat", "acceptance", "radar") for f in ("", "-sd", "-s2d")}
    stems = {"mean_speedup", "exit_depths", "thresholds", "mat_gamma", *by_family}
    assert {stem for stem, _ in draw.figures(PlotTables.of(RUN, TABLE))} == stems


def test_the_radar_has_a_panel_per_target_and_a_closed_line_per_decoder() -> None:
    figure = drawn(plots_targets.radar(TABLE))
    assert [axes.get_title() for axes in figure.axes] == list(TARGETS)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(SUITES) + 1]
    assert len(lines) == len(LANES)
    rows = TABLE[(TABLE["target"] == "demo-s") & (TABLE["label"] == "sd:draft=demo-tiny") & (TABLE["suite"] != OVERALL)]
    assert any(list(line.get_ydata()) == [*rows["speedup"], rows["speedup"].iloc[0]] for line in lines)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(dict.fromkeys(TABLE["label"]))[1:]


def test_no_radar_below_three_suites() -> None:
    assert plots_targets.radar(summary_table(paper_run())) is None


def test_the_bars_are_the_means_over_targets_highest_on_top_in_the_decoders_colours() -> None:
    figure = drawn(plots_targets.mean_speedup(TABLE))
    axes = figure.axes[0]
    rows = TABLE[(TABLE["target"] == MEAN_TARGET) & (TABLE["suite"] == OVERALL) & (TABLE["label"] != "ar")]
    expected = rows.sort_values("speedup")
    assert [bar.get_width() for bar in axes.patches] == list(expected["speedup"])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(expected["label"])
    looks = decoder_looks(rows)
    assert [to_hex(bar.get_facecolor()).upper() for bar in axes.patches] == [looks[x].colour for x in expected["label"]]
    ends = [tuple(lines.get_segments()[0][:, 0]) for lines in axes.collections]
    assert ends == list(zip(expected["speedup_low"], expected["speedup_high"], strict=True))


def test_lossy_bars_are_hatched_marked_and_below_the_lossless_however_fast() -> None:
    names = ("s2d-tree", "s2d")
    figure = drawn(plots_targets.mean_speedup(TABLE.assign(lossy=TABLE["label"].isin(names))))
    axes = figure.axes[0]
    assert {tick.get_text() for tick in axes.get_yticklabels()[:2]} == {f"{name} †" for name in names}
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [True, True, *[False] * (len(LANES) - 2)]
    assert "Hatched: lossy" in figure.get_supxlabel()


def test_the_radars_scale_starts_at_zero_as_its_caption_says() -> None:
    figure = drawn(plots_targets.radar(TABLE))
    assert {axes.get_ylim()[0] for axes in figure.axes} == {0.0}
    assert "a scale of its own, from zero" in figure.get_supxlabel()


def test_a_bar_without_an_interval_has_no_line() -> None:
    figure = drawn(plots_targets.mean_speedup(TABLE.assign(speedup_low=None, speedup_high=None)))
    assert not figure.axes[0].collections
    assert "no intervals: too few questions" in figure.get_supxlabel()
    fast, _ = drawn(plots_targets.thresholds(ABLATION.assign(speedup_low=None, speedup_high=None))).axes
    assert not fast.collections


def test_one_target_has_no_mean_and_no_bars() -> None:
    assert plots_targets.mean_speedup(TABLE[TABLE["target"] == "demo-s"]) is None


def test_exit_bars_are_the_shares_and_fill_the_width() -> None:
    figure = drawn(plots_targets.exit_depths(EXITS))
    assert [axes.get_title("left") for axes in figure.axes] == list(TARGETS)
    widths = [bar.get_width() for bar in figure.axes[2].patches]
    assert widths == pytest.approx(list(EXITS[EXITS["target"] == "demo-l"]["share"]))
    assert sum(widths) == pytest.approx(len(set(EXITS["label"])))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"exit after layer {d}" for d in (2, 3, 4)]


def test_thresholds_have_a_line_per_target_and_one_for_the_mean() -> None:
    figure = drawn(plots_targets.thresholds(ABLATION))
    fast, deep = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*TARGETS, MEAN_TARGET]
    mean = ABLATION[ABLATION["target"] == MEAN_TARGET]
    assert list(fast.lines[-1].get_ydata()) == list(mean["speedup"])
    assert list(deep.lines[-1].get_ydata()) == list(mean["mat"])
    assert [tick.get_text() for tick in fast.get_xticklabels()] == ["0.5+0.5+0", "0.75+0.7+0", "0.9+0.85+0"]


def test_without_exits_or_several_thresholds_there_is_no_picture() -> None:
    assert plots_targets.exit_depths(EXITS.iloc[:0]) is None
    assert plots_targets.thresholds(ABLATION.iloc[:0]) is None
