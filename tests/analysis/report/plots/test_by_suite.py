"""Pictures: which are drawn, from what, and that they come out the same twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from specbench_s2d.analysis.report.plots import by_suite, draw
from specbench_s2d.analysis.report.plots import style as drawing
from specbench_s2d.analysis.tables.series import PlotTables, acceptance_by_position
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.runs.record import Record
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import decoded, make_record, paper_run
from tests.analysis.report.grid import grid_run
from tests.analysis.report.joint import joint_run, with_intervals

RUN = [*paper_run(), *(r.model_copy(update={"target": "u"}) for r in paper_run())]
SIX = paper_run(3)
TABLE, POSITIONS = summary_table(RUN), acceptance_by_position(RUN)


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
    points = [y for line in figure.axes[0].lines for y in line.get_ydata() if line.get_marker() == "o"]
    assert points == [pytest.approx(5)]
    ends = figure.axes[0].collections[0].get_segments()[0][:, 1]
    assert list(ends) == pytest.approx(ends_of_three_copies(5, 5.6, 4.4, (4, 16)))


def test_below_five_questions_no_interval_is_drawn() -> None:
    figure = by_suite.by_suite(TABLE, "speedup")
    assert figure is not None
    points = [y for line in figure.axes[0].lines for y in line.get_ydata() if line.get_marker() == "o"]
    drawn = [part for collection in figure.axes[0].collections for part in collection.get_segments()]
    assert points == [pytest.approx(5)]
    assert not any(np.isfinite(part).all() and np.ptp(part[:, 1]) > 0 for part in drawn)


def test_a_position_that_few_proposals_reached_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fewest = sorted(POSITIONS[POSITIONS["suite"] == "overall"]["reached"])[0] + 1
    monkeypatch.setattr(by_suite, "FEWEST_REACHED", fewest)
    figure = by_suite.acceptance(POSITIONS)
    assert figure is not None
    thick = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert 0 < len(thick[0].get_ydata()) < 5


def test_acceptance_draws_the_rates_of_all_suites() -> None:
    figure = by_suite.acceptance(POSITIONS)
    assert figure is not None
    thick = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in thick] == [pytest.approx([3 / 5, 2 / 3, 1, 1 / 2, 1])]


def test_lossy_decoders_are_hollow_and_marked_in_the_legend() -> None:
    figure = by_suite.by_suite(summary_table([*RUN, decoded("mjsd", 1, [(4, 4, 5)], decode_s=1)]), "mat")
    assert figure is not None
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["sd", "mjsd †"]
    assert legend.legend_handles[1].get_markerfacecolor() == "white"


def test_nothing_to_show_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "FORMATS", ("svg",))
    assert drawn([r for r in RUN if r.label == "ar"], tmp_path) == []
    assert drawn([make_record("sd", 1, status="failed")], tmp_path) == []
    without_ar = drawn([r for r in RUN if r.label == "sd"], tmp_path)
    assert {path.stem for path in without_ar} == {"mat", "acceptance"}


def test_many_decoders_keep_apart() -> None:
    """No two of twenty decoders of one family share colour and marker, nor a place on the axis."""
    rows = pd.DataFrame(
        {"label": [f"d{i}" for i in range(20)], "decoder": "d", "draft": None, "lossy": False, "projected": None}
    )
    looks = list(drawing.decoder_looks(rows).values())
    assert len({(look.colour, look.marker) for look in looks}) == 20
    assert len({by_suite._offset(i, 20) for i in range(20)}) == 20
    assert max(by_suite._offset(i, 20) for i in range(20)) < 0.5


def test_a_dozen_decoders_share_colours_by_family_and_differ_in_lines() -> None:
    table = summary_table(grid_run(1, targets=["demo-s"]))
    looks = drawing.decoder_looks(table[table["label"] != "ar"])
    assert len({look.colour for look in looks.values()}) == 6
    assert len({(look.colour, look.line) for look in looks.values()}) == 12
    assert looks["sd:exit=2"].colour == looks["sd:exit=4"].colour != looks["sd"].colour


def test_few_decoders_have_a_colour_each_whatever_their_family() -> None:
    rows = pd.DataFrame(
        {"label": ["a", "b", "c"], "decoder": "sd", "draft": ["x", "x", "y"], "lossy": False, "projected": None}
    )
    looks = drawing.decoder_looks(rows)
    assert len({look.colour for look in looks.values()}) == 3
    assert {look.line for look in looks.values()} == {"-"}


def test_a_run_of_joint_decoding_draws_every_picture_the_same_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "FORMATS", ("svg",))
    run = joint_run(1, targets=("demo-s",))
    tables = PlotTables.of(run, with_intervals(summary_table(run)))
    written = draw.draw_all(tables, tmp_path / "a")
    joint = {"ppl_k", "rouge_k", "ppl_tau", "speed_tau", "mat_tau", "mat_gamma", "speed_ppl"}
    assert {path.stem for path in written} == {"speedup", "mat", "acceptance", "radar"} | joint
    for path in draw.draw_all(tables, tmp_path / "b"):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_lossy_decoders_bring_colours_by_method_however_few() -> None:
    rows = pd.DataFrame({"label": ["s2d", "s2d-auto", "mjsd"], "decoder": ["s2d", "s2d-auto", "mjsd"]})
    looks = drawing.decoder_looks(rows.assign(draft="x", projected=None, lossy=[False, False, True]))
    assert looks["s2d"].colour == looks["s2d-auto"].colour == drawing.METHOD_COLOURS["s2d"]
    assert looks["mjsd"].colour == drawing.METHOD_COLOURS["mjsd"]
    assert looks["s2d"].line != looks["s2d-auto"].line


def test_families_name_the_draft_only_where_one_decoder_has_several() -> None:
    labels = ["sd", "s2d-tree", "a+b"]
    rows = pd.DataFrame({"label": labels, "decoder": labels, "draft": "x", "lossy": False, "projected": None})
    assert list(drawing.family_titles(rows).values()) == ["sd", "s2d", "other pairs"]
    both = pd.concat([rows, rows.iloc[:1].assign(label="sd:draft=y", draft="y")])
    assert drawing.family_titles(both)["sd:draft=y"] == "sd with y"
    assert drawing.family_titles(both.assign(lossy=True))["sd:draft=y"] == "sd"


def test_legend_rows_are_alike() -> None:
    assert [drawing.legend_columns(["x" * 12] * n, 7.2) for n in (1, 4, 5, 6)] == [1, 4, 3, 3]


def test_more_lines_than_fit_a_small_panel_get_the_whole_width() -> None:
    few = drawing_of(joint_run(2, targets=("demo-s", "demo-l")), {"ar", "sd", "mjsd"})
    many = drawing_of(joint_run(2, targets=("demo-s", "demo-l")), None)
    assert [axes.get_subplotspec().get_gridspec().ncols for axes in (few, many)] == [2, 1]


def drawing_of(records: list[Record], labels: set[str] | None) -> Axes:
    figure = by_suite.acceptance(acceptance_by_position(r for r in records if labels is None or r.label in labels))
    assert figure is not None
    return figure.axes[0]
