"""What a written picture holds."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from specbench_s2d.analysis.report.plots import draw
from specbench_s2d.analysis.report.plots.style import STYLE


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
