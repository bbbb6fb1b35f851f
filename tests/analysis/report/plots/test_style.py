"""How a picture is written: text that stays text, and no bytes that nobody sees."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.image import imread

from specbench_s2d.analysis.report.plots.style import STYLE, compact_svg, save

SVG = """<svg viewBox="0 0 525.949519 626.3">
  <defs>
    <clipPath id="used"/>
  </defs>
  <g id="line2d_1" clip-path="url(#used)">
    <path d="M 50.442589 257.021574
L 490.679996 257.5" style="stroke-width: 0.865455"/>
  </g>
  <text x="1.23456">γ = 0.12345 id="text"</text>
</svg>
"""
COMPACT = """<svg viewBox="0 0 525.95 626.3">
<defs>
<clipPath id="used"/>
</defs>
<g clip-path="url(#used)">
<path d="M 50.44 257.02
L 490.68 257.5" style="stroke-width: 0.87"/>
</g>
<text x="1.23">γ = 0.12345 id="text"</text>
</svg>
"""


def test_coordinates_and_names_are_shortened_and_text_is_not() -> None:
    assert compact_svg(SVG) == COMPACT


def test_a_picture_in_each_format(tmp_path: Path) -> None:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, "τ = 0.12345")
        for name in ("a.svg", "a.png"):
            save(figure, tmp_path / name)
    texts = [element.text for element in ElementTree.parse(tmp_path / "a.svg").iter() if element.tag.endswith("}text")]
    assert texts == ["τ = 0.12345"]
    height, width, _ = imread(tmp_path / "a.png").shape
    assert height < 300 and 150 < width < 600  # 300 dots an inch, cropped to the text
