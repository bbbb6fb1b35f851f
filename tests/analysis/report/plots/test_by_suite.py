"""Pictures: which are drawn, from what, and that they come out the same twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from specbench_s2d.analysis.report.plots import by_suite, draw
from specbench_s2d.analysis.report.plots import style as drawing
from specbench_s2d.analysis.tables.series import PlotTables, acceptance_by_position
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.config import SUITES
from specbench_s2d.runs.record import Record
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import decoded, make_record, paper_run
from tests.analysis.report.joint import joint_run, with_intervals

pytestmark = pytest.mark.usefixtures("pictures")

RUN = [*paper_run(), *(r.model_copy(update={"target": "u"}) for r in paper_run())]
FAMILIES = ("", "-sd", "-s2d", "-mjgd", "-mjsd")
SIX = paper_run(3)
TABLE = summary_table(RUN).assign(speedup_low=2.0, speedup_high=8.0)  # two questions are too few for intervals
POSITIONS = acceptance_by_position(RUN)


@pytest.fixture(autouse=True)
def every_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run below is too small for a rate that stands on twenty proposals."""
    monkeypatch.setattr(by_suite, "FEWEST_REACHED", 1)


def drawn(records: list[Record], folder: Path) -> list[Path]:
    return draw.draw_all(PlotTables.of(records, summary_table(records)), folder)


def test_pictures_in_two_formats_the_same_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drawing.STYLE, "savefig.dpi", 40)
    first = drawn(RUN, tmp_path / "a")
    monkeypatch.setattr(draw, "FORMATS", ("svg",))
    again = drawn(RUN, tmp_path / "b")
    stems = ("speedup", "mat", "acceptance", "mean_speedup")
    assert {path.name for path in first} == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")}
    assert all(path.stat().st_size > 1000 for path in first)
    for path in again:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    assert b"<dc:date>" not in (tmp_path / "a" / "speedup.svg").read_bytes()


def test_a_panel_per_target_with_the_table_s_points_and_intervals() -> None:
    both = summary_table([*SIX, *(r.model_copy(update={"target": "u"}) for r in SIX)])
    figure = by_suite.by_suite(both, "speedup")
    assert figure is not None
    assert [axes.get_title("left") for axes in figure.axes] == ["t", "u"]
    points = [y for line in figure.axes[0].lines for y in line.get_ydata() if line.get_marker() == "s"]
    assert points == [pytest.approx(5)]
    ends = figure.axes[0].collections[0].get_segments()[0][:, 1]
    assert list(ends) == pytest.approx(ends_of_three_copies(5, 5.6, 4.4, (4, 16)))


@pytest.mark.parametrize(("suites", "slanted"), [(SUITES, False), ([f"custom/category-{i}" for i in range(9)], True)])
def test_names_of_suites_that_would_touch_are_slanted(suites: Sequence[str], slanted: bool) -> None:
    records = [r.model_copy(update={"suite": s, "key": f"{s}/{r.key}"}) for s in suites for r in paper_run()]
    figure = by_suite.by_suite(summary_table(records), "speedup")
    assert figure is not None
    names = [label for axes in figure.axes for label in axes.get_xticklabels()]
    assert names[0].get_text() and {name.get_rotation() > 0 for name in names} == {slanted}


def test_below_five_questions_no_interval_is_drawn() -> None:
    figure = by_suite.by_suite(summary_table(RUN), "speedup")
    assert figure is not None
    points = [y for line in figure.axes[0].lines for y in line.get_ydata() if line.get_marker() == "s"]
    drawn = [part for collection in figure.axes[0].collections for part in collection.get_segments()]
    assert points == [pytest.approx(5)]
    assert not any(np.isfinite(part).all() and np.ptp(part[:, 1]) > 0 for part in drawn)


def test_a_position_that_few_proposals_reached_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fewest = sorted(POSITIONS[POSITIONS["suite"] == "overall"]["reached"])[0] + 1
    monkeypatch.setattr(by_suite, "FEWEST_REACHED", fewest)
    figure = by_suite.acceptance(POSITIONS)
    assert figure is not None
    thick = [line for line in figure.axes[0].lines if line.get_marker() == "s"]
    assert 0 < len(thick[0].get_ydata()) < 5


def test_acceptance_draws_the_rates_of_all_suites() -> None:
    figure = by_suite.acceptance(POSITIONS)
    assert figure is not None
    thick = [line for line in figure.axes[0].lines if line.get_marker() == "s"]
    assert [list(line.get_ydata()) for line in thick] == [pytest.approx([3 / 5, 2 / 3, 1, 1 / 2, 1])]


def test_lossy_decoders_are_hollow_and_marked_in_the_legend() -> None:
    figure = by_suite.by_suite(summary_table([*RUN, decoded("mjsd", 1, [(4, 4, 5)], decode_s=1)]), "mat")
    assert figure is not None
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["sd", "mjsd †"]
    assert legend.legend_handles[1].get_markerfacecolor() == "white"


def rows_of(labels: list[str], decoders: list[str] | None = None) -> pd.DataFrame:
    decoders = decoders or [label.partition(":")[0] for label in labels]
    return pd.DataFrame({"label": labels, "decoder": decoders, "lossy": False, "projected": None})


def test_no_axis_goes_below_zero_for_one_long_whisker() -> None:
    table = TABLE.assign(speedup_low=TABLE["speedup"] * 0.05, speedup_high=TABLE["speedup"] * 3)
    figure = by_suite.by_suite(table, "speedup")
    assert figure is not None
    assert {axes.get_ylim()[0] for axes in figure.axes} == {0.0}


@pytest.mark.parametrize("end", ["speedup_low", "speedup_high"])
def test_a_row_without_an_interval_has_no_whisker_and_the_caption_says_so(end: str) -> None:
    gone = TABLE["target"] == "t"
    some = by_suite.by_suite(TABLE.assign(**{end: TABLE[end].where(~gone)}), "speedup")
    none = by_suite.by_suite(TABLE.assign(speedup_low=None, speedup_high=None), "speedup")
    assert some is not None and none is not None
    assert [len(axes.collections) for axes in some.axes] == [0, 1]
    assert "over questions within this launch (none where questions are too few)" in some.get_supxlabel()
    several = by_suite.by_suite(TABLE.assign(launches=3), "speedup")
    assert several is not None and "bars: 95 % intervals over questions and 3 launches." in several.get_supxlabel()
    assert [len(axes.collections) for axes in none.axes] == [0, 0]
    assert "no intervals: too few questions" in none.get_supxlabel()


SWEPT = [f"sd:gamma={i}" for i in range(8)]


def test_up_to_ten_decoders_share_a_plot() -> None:
    labels = ["ar", "sd", "s2d", *SWEPT]
    (whole,) = draw.parts(rows_of(labels))
    assert (whole.labels, whole.name, whole.note) == (set(labels) - {"ar"}, "", "")


def test_of_more_than_ten_those_without_options_are_drawn_together_and_each_method_that_is_not_whole_there() -> None:
    plain, sd = draw.parts(rows_of(["ar", "sd", "s2d", "beam+token", "s2d+joint", *SWEPT]))
    assert (plain.labels, plain.name) == ({"sd", "s2d", "beam+token", "s2d+joint"}, "")
    assert "Decoders without options" in plain.note
    assert (sd.name, sd.labels) == ("sd", {"sd", *SWEPT})


def test_a_method_without_a_plain_decoder_stands_there_by_its_first() -> None:
    plain, sd = draw.parts(rows_of(["ar", "s2d", "eagle:gamma=4", "lookup", *SWEPT]))
    assert plain.labels == {"s2d", "eagle:gamma=4", "lookup", "sd:gamma=0"}
    assert sd.labels == {*SWEPT}


def test_where_the_plain_ones_are_too_many_one_of_each_method_stands_for_it() -> None:
    labels = ["sd", "lookup", "suffix", "s2d", "s2d-tree", "s2d-auto", "mjsd", "s2d+joint", "beam+token", "mjgd"]
    first, s2d, pairs = draw.parts(rows_of(["ar", *labels, "recycling-x"]))
    assert first.labels == {"sd", "lookup", "suffix", "s2d", "mjsd", "mjgd", "recycling-x", "s2d+joint"}
    assert "One decoder of each method" in first.note
    assert s2d.labels == {"s2d", "s2d-tree", "s2d-auto"} and pairs.labels == {"s2d+joint", "beam+token"}


def test_too_many_methods_have_no_plot_together() -> None:
    labels = ["ar", *(f"d{i}" for i in range(11)), "sd:gamma=3"]
    assert [(part.name, len(part.labels)) for part in draw.parts(rows_of(labels))] == [
        *((f"d{i}", 1) for i in range(11)),
        ("sd", 1),
    ]


def test_plots_of_a_family_are_called_so() -> None:
    assert draw.title_of("speedup-other-pairs") == "Speed-up by suite: other pairs"
    assert draw.title_of("mean_speedup") == "Mean speed-up over targets"


def test_nothing_to_show_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "FORMATS", ("svg",))
    assert drawn([r for r in RUN if r.label == "ar"], tmp_path) == []
    assert drawn([make_record("sd", 1, status="failed")], tmp_path) == []
    without_ar = drawn([r for r in RUN if r.label == "sd"], tmp_path)
    assert {path.stem for path in without_ar} == {"mat", "acceptance"}


def test_a_run_of_joint_decoding_has_every_picture_and_its_own_come_out_the_same_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "FORMATS", ("svg",))
    run = joint_run(1, targets=("demo-s",))
    tables = PlotTables.of(run, with_intervals(summary_table(run)))
    joint = {"ppl_k", "rouge_k", "ppl_tau", "speed_tau", "mat_tau", "mat_gamma", "speed_ppl", "lossy"}
    by_family = {f"{name}{family}" for name in ("speedup", "mat", "acceptance", "radar") for family in FAMILIES}
    assert {stem for stem, _ in draw.figures(tables)} == joint | (by_family - {"acceptance-mjgd"})
    monkeypatch.setattr(draw, "PLOTS", [plot for plot in draw.PLOTS if plot.name in joint])
    first, again = (draw.draw_all(tables, tmp_path / name) for name in "ab")
    assert {path.stem for path in first} == joint
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_more_lines_than_fit_a_small_panel_get_the_whole_width() -> None:
    few = drawing_of(joint_run(2, targets=("demo-s", "demo-l")), {"ar", "sd", "mjsd"})
    many = drawing_of(joint_run(2, targets=("demo-s", "demo-l")), None)
    assert [axes.get_subplotspec().get_gridspec().ncols for axes in (few, many)] == [2, 1]


def drawing_of(records: list[Record], labels: set[str] | None) -> Axes:
    figure = by_suite.acceptance(acceptance_by_position(r for r in records if labels is None or r.label in labels))
    assert figure is not None
    return figure.axes[0]
