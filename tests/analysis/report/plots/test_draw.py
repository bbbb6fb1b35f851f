"""What a written picture holds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from specbench_s2d.analysis.report.plots import draw
from specbench_s2d.analysis.report.plots.style import STYLE
from specbench_s2d.analysis.tables.series import PlotTables


@pytest.mark.parametrize(("height", "dpi"), [(2.0, 300), (11.0, 150)], ids=["for a page", "for a screen"])
def test_no_line_below_a_plot_is_cut_off(tmp_path: Path, height: float, dpi: int) -> None:
    """Text is wider at 300 dpi than at matplotlib's own 100, by which it seems to fit here."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        figure.subplots()
        note = "Decode tokens/s over those of the same target alone; bars: 95 % intervals over questions and 3 launches"
        figure.supxlabel(f"{note} (none where questions are too few).", fontsize=7.5, x=0.01, ha="left")
        png, _ = draw._save(figure, tmp_path / "plot", [])
    picture = Image.open(png)
    assert picture.info["dpi"] == pytest.approx((dpi, dpi), rel=0.01)
    pixels = np.asarray(picture.convert("L"))
    assert (pixels[:, -5:] == 255).all() and (pixels < 128).any()


def test_names_that_the_font_lacks_and_panels_without_room_warn_nobody(tmp_path: Path) -> None:
    def cramped(tables: object, first: int, every: int) -> Iterator[tuple[str, Figure]]:
        figure = Figure(figsize=(0.2, 0.2), layout="constrained")
        figure.subplots().set_title("模型🙂 数学")
        yield "plot", figure

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(draw, "figures", cramped)
        patch.setattr(draw, "projections", lambda summary: [])
        assert [path.name for path in draw._draw_some(PlotTables(*[pd.DataFrame()] * 7), tmp_path, 0, 1)] == [
            "plot.png",
            "plot.svg",
        ]
    assert "模型🙂 数学" in (tmp_path / "plot.svg").read_text(encoding="utf-8")
