"""Pictures: which are drawn, from what, and that they come out the same twice."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from specbench_s2d.analysis import plots, tidy
from tests.analysis.factory import decoded, make_record, paper_run

RUN = [*paper_run(), *(r.model_copy(update={"target": "u"}) for r in paper_run())]
TABLE, POSITIONS = tidy.tidy(RUN), tidy.acceptance_by_position(RUN)


def test_three_pictures_in_two_formats_the_same_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plots._STYLE, "savefig.dpi", 40)
    first = plots.draw_all(TABLE, POSITIONS, tmp_path / "a")
    monkeypatch.setattr(plots, "FORMATS", ("svg",))
    again = plots.draw_all(TABLE, POSITIONS, tmp_path / "b")
    names = {f"{stem}.{suffix}" for stem in ("speedup", "mat", "acceptance") for suffix in ("png", "svg")}
    assert {path.name for path in first} == names
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
    alone = [r for r in RUN if r.label == "ar"]
    assert plots.draw_all(tidy.tidy(alone), tidy.acceptance_by_position(alone), tmp_path) == []
    failed = [make_record("sd", 1, status="failed")]
    assert plots.draw_all(tidy.tidy(failed), tidy.acceptance_by_position(failed), tmp_path) == []
    without_ar = [r for r in RUN if r.label == "sd"]
    drawn = plots.draw_all(tidy.tidy(without_ar), tidy.acceptance_by_position(without_ar), tmp_path)
    assert {path.stem for path in drawn} == {"mat", "acceptance"}


def test_many_decoders_keep_apart() -> None:
    """No two of twenty decoders share colour and marker, nor a place on the axis."""
    rows = pd.DataFrame({"label": [f"d{i}" for i in range(20)], "lossy": False})
    looks = list(plots._looks(rows).values())
    assert len({(look.colour, look.marker) for look in looks}) == 20
    assert len({plots._offset(i, 20) for i in range(20)}) == 20
    assert max(plots._offset(i, 20) for i in range(20)) < 0.5
