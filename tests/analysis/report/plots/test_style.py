"""How a picture is written: text that stays text, and no bytes that nobody sees."""

from __future__ import annotations

import tomllib
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

from specbench_s2d.analysis.report.plots import draw
from specbench_s2d.analysis.report.plots.draw import run_looks
from specbench_s2d.analysis.report.plots.style import (
    METHOD_COLOURS,
    STYLE,
    Look,
    compact_svg,
    decoder_looks,
    ends,
    legend_columns,
    method_colour,
    save,
)
from specbench_s2d.analysis.tables.series import PlotTables
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.config import DEMO_DECODERS
from specbench_s2d.decoding.spec import parse_decoders
from specbench_s2d.resources import run_files
from tests.analysis.factory import ar, decoded
from tests.analysis.report.joint import joint_run

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
        figure = Figure(figsize=(2, 1), dpi=300)
        figure.text(0.1, 0.5, "τ = 0.12345")
        for name in ("a.svg", "a.png"):
            save(figure, tmp_path / name, figure.get_tightbbox().padded(0.1))
    texts = [element.text for element in ElementTree.parse(tmp_path / "a.svg").iter() if element.tag.endswith("}text")]
    assert texts == ["τ = 0.12345"]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P" and picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert picture.height < 300 and 150 < picture.width < 600  # cropped to the text


def test_a_png_shows_what_was_drawn(tmp_path: Path) -> None:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3, 2), dpi=300)
        for place, (method, colour) in enumerate(METHOD_COLOURS.items()):
            figure.text(0.1, 0.08 * place, method, color=colour)
        save(figure, tmp_path / "few.png", figure.get_tightbbox())
        figure.savefig(tmp_path / "all.png", bbox_inches=figure.get_tightbbox())
    few, every = (imread(tmp_path / name)[..., :3] for name in ("few.png", "all.png"))
    assert np.abs(few - every).max() <= 0.25  # the rims of letters; their inside is exact
    shown = {tuple(pixel) for pixel in (few.reshape(-1, 3) * 255).round().astype(int).tolist()}
    assert (
        len(shown) <= 256
        and {tuple(round(part * 255) for part in to_rgb(one)) for one in METHOD_COLOURS.values()} <= shown
    )


# How a label looks


def looks_of(labels: list[str], lossy: bool = False) -> dict[str, Look]:
    decoders = [label.partition(":")[0] for label in labels]
    return decoder_looks(pd.DataFrame({"label": labels, "decoder": decoders, "lossy": lossy, "projected": None}))


def run_file_labels() -> dict[str, list[str]]:
    """The labels of the demo grid and of every run file that ships."""
    files = {name: tomllib.loads(path.read_text(encoding="utf-8")) for name, path in run_files().items()}
    asked = {"the demo grid": list(DEMO_DECODERS), **{name: file["decoder"] for name, file in files.items()}}
    return {name: [decoder.label for decoder in parse_decoders(decoders)] for name, decoders in asked.items()}


def test_a_label_looks_the_same_in_every_run_and_picture_unless_an_earlier_name_looks_so() -> None:
    for labels in run_file_labels().values():
        alone = {label: looks_of([label])[label] for label in labels}
        drawn = {label: (look.colour, look.marker) for label, look in alone.items()}
        free = [a for a in labels if not any(drawn[a] == drawn[b] for b in labels if b < a)]
        assert len(free) >= len(labels) - 1
        for order in (labels, sorted(labels, reverse=True)):
            looks = looks_of(order)
            assert all(looks[label] == alone[label] for label in free)


def test_no_two_labels_of_a_run_look_the_same() -> None:
    for labels in (*run_file_labels().values(), [f"sd:gamma={i}" for i in range(30)]):
        looks = looks_of(labels).values()
        assert len({(look.colour, look.marker) for look in looks}) == len(labels)


def test_labels_that_draw_the_same_are_told_apart_and_the_first_by_name_keeps_its_look() -> None:
    labels = [f"sd:gamma={i}" for i in range(100, 400)]
    alone = {label: looks_of([label])[label] for label in labels}
    first = alone["sd:gamma=100"]
    same = next(x for x in labels[1:] if (alone[x].colour, alone[x].marker) == (first.colour, first.marker))
    for order in (["sd:gamma=100", same], [same, "sd:gamma=100"]):
        looks = looks_of(order)
        assert looks["sd:gamma=100"] == first
        assert (looks[same].colour, looks[same].marker) != (first.colour, first.marker)


def test_a_method_has_one_hue_and_its_plain_decoder_the_colour_itself() -> None:
    looks = looks_of(["s2d", "s2d-tree", "s2d-auto", "mjsd", "beam+token"])
    assert looks["s2d"].colour == looks["s2d-tree"].colour == looks["s2d-auto"].colour == METHOD_COLOURS["s2d"]
    assert looks["mjsd"].colour == METHOD_COLOURS["mjsd"]
    assert looks["beam+token"].colour == METHOD_COLOURS["other pairs"]
    assert method_colour("my_method") == method_colour("my_method") not in METHOD_COLOURS.values()


def test_a_sweep_is_drawn_as_the_label_that_it_is_named_after() -> None:
    run = joint_run(1, targets=("demo-s",))
    looks = run_looks(PlotTables.of(run, summary_table(run)))
    assert looks["mjsd"] == looks_of(["mjsd"], lossy=True)["mjsd"]
    assert "mjsd:tau=0.1" in looks and "ar" in looks


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_an_interval_has_two_ends_or_is_none(missing: object) -> None:
    assert ends({"mat_low": 1, "mat_high": 2}, "mat") == (1.0, 2.0)
    assert ends({"mat_low": missing, "mat_high": 2}, "mat") is None
    assert ends({"mat_low": 1, "mat_high": missing}, "mat") is None
    assert ends({}, "mat") is None


def test_legend_rows_are_alike() -> None:
    assert [legend_columns(["x" * 12] * n, 7.2) for n in (1, 4, 5, 6)] == [1, 4, 3, 3]


def test_every_family_of_any_name_has_a_file_of_its_own(pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "PLOTS", draw.PLOTS[1:2])
    families = ["x y", "x|y", "z" * 300 + ".5", "/../v1.5"]
    labels = [(f"{family}:n={n}", family) for family in families for n in range(3)]
    run = [ar(1, 5, decode_s=4)] + [decoded(label, 1, [(5, 1, 2)], decode_s=2, decoder=name) for label, name in labels]
    with mpl.rc_context(STYLE):
        stems = [stem for stem, _ in draw.figures(PlotTables.of(run, summary_table(run)))]
    assert stems == ["mat", "mat-..-v1.5", "mat-x-y", "mat-x-y-", f"mat-{'z' * 60}"]
