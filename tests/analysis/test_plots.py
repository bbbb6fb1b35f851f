"""Pictures: which are drawn, from what, and that they come out the same twice."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from specbench_s2d.analysis import drawing, plots, tidy
from specbench_s2d.bench.records import Record
from tests.analysis.factory import decoded, make_record, paper_run
from tests.analysis.grid import grid_run

RUN = [*paper_run(), *(r.model_copy(update={"target": "u"}) for r in paper_run())]
TABLE, POSITIONS = tidy.tidy(RUN), tidy.acceptance_by_position(RUN)


@pytest.fixture(autouse=True)
def every_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run below is too small for a rate that stands on twenty proposals."""
    monkeypatch.setattr(plots, "FEWEST_REACHED", 1)


def draw(records: list[Record], folder: Path) -> list[Path]:
    table = tidy.tidy(records)
    exits, ablation = tidy.exit_depths(records), tidy.threshold_ablation(records, table)
    return plots.draw_all(table, tidy.acceptance_by_position(records), exits, ablation, folder)


def test_pictures_in_two_formats_the_same_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drawing.STYLE, "savefig.dpi", 40)
    first = draw(RUN, tmp_path / "a")
    monkeypatch.setattr(plots, "FORMATS", ("svg",))
    again = draw(RUN, tmp_path / "b")
    stems = ("speedup", "mat", "acceptance", "mean_speedup")
    assert {path.name for path in first} == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")}
    assert all(path.stat().st_size > 1000 for path in first)
    for path in again:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    assert b"<dc:date>" not in (tmp_path / "a" / "speedup.svg").read_bytes()


def test_a_panel_per_target_with_the_table_s_points_and_intervals() -> None:
    figure = plots.speedup(TABLE)
    assert figure is not None
    assert [axes.get_title("left") for axes in figure.axes] == ["t", "u"]
    points = [y for line in figure.axes[0].lines for y in line.get_ydata() if line.get_marker() == "o"]
    assert points == [pytest.approx(5)]
    ends = figure.axes[0].collections[0].get_segments()[0][:, 1]
    assert list(ends) == pytest.approx([2, 8])


def test_a_position_that_few_proposals_reached_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fewest = sorted(POSITIONS[POSITIONS["suite"] == "overall"]["reached"])[0] + 1
    monkeypatch.setattr(plots, "FEWEST_REACHED", fewest)
    figure = plots.acceptance(POSITIONS)
    assert figure is not None
    thick = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert 0 < len(thick[0].get_ydata()) < 5


def test_acceptance_draws_the_rates_of_all_suites() -> None:
    figure = plots.acceptance(POSITIONS)
    assert figure is not None
    thick = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in thick] == [pytest.approx([3 / 5, 2 / 3, 1, 1 / 2, 1])]


def test_lossy_decoders_are_hollow_and_marked_in_the_legend() -> None:
    figure = plots.mean_accepted_tokens(tidy.tidy([*RUN, decoded("mjsd", 1, [(4, 4, 5)], decode_s=1)]))
    assert figure is not None
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["sd", "mjsd †"]
    assert legend.legend_handles[1].get_markerfacecolor() == "white"


def test_nothing_to_show_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "FORMATS", ("svg",))
    assert draw([r for r in RUN if r.label == "ar"], tmp_path) == []
    assert draw([make_record("sd", 1, status="failed")], tmp_path) == []
    without_ar = draw([r for r in RUN if r.label == "sd"], tmp_path)
    assert {path.stem for path in without_ar} == {"mat", "acceptance"}


def test_many_decoders_keep_apart() -> None:
    """No two of twenty decoders of one family share colour and marker, nor a place on the axis."""
    rows = pd.DataFrame({"label": [f"d{i}" for i in range(20)], "decoder": "d", "draft": None, "lossy": False})
    looks = list(drawing.decoder_looks(rows).values())
    assert len({(look.colour, look.marker) for look in looks}) == 20
    assert len({plots._offset(i, 20) for i in range(20)}) == 20
    assert max(plots._offset(i, 20) for i in range(20)) < 0.5


def test_a_dozen_decoders_share_colours_by_family_and_differ_in_lines() -> None:
    table = tidy.tidy(grid_run(1, targets=["demo-s"]), resamples=10)
    looks = drawing.decoder_looks(table[table["label"] != "ar"])
    assert len({look.colour for look in looks.values()}) == 6
    assert len({(look.colour, look.line) for look in looks.values()}) == 12
    assert looks["sd:exit=2"].colour == looks["sd:exit=4"].colour != looks["sd"].colour


def test_few_decoders_have_a_colour_each_whatever_their_family() -> None:
    rows = pd.DataFrame({"label": ["a", "b", "c"], "decoder": "sd", "draft": ["x", "x", "y"], "lossy": False})
    looks = drawing.decoder_looks(rows)
    assert len({look.colour for look in looks.values()}) == 3
    assert {look.line for look in looks.values()} == {"-"}
