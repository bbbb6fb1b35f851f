"""Plots inside the page: ids that do not clash, nothing that a page must not hold."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from specbench_s2d.analysis.report.html.svg import inline, inline_plots
from specbench_s2d.analysis.report.plots import draw
from specbench_s2d.analysis.tables.series import PlotTables
from tests.analysis.report.html.pages import records, table

pytestmark = pytest.mark.usefixtures("pictures")


def test_ids_and_what_points_at_them_get_the_prefix() -> None:
    svg = '<?xml version="1.0"?><!DOCTYPE svg><svg width="9pt" height="9pt" viewBox="0 0 9 9" xmlns="u"><metadata>m' \
          '</metadata><path id="p"/><use xlink:href="#p" clip-path="url(#c)"/></svg>'  # fmt: skip
    assert inline(svg, "one-", 'a "title"') == (
        '<svg viewBox="0 0 9 9" role="img" aria-label="a &#34;title&#34;">'
        '<path id="one-p"/><use href="#one-p" clip-path="url(#one-c)"/></svg>'
    )


def test_drawn_plots_share_no_id_and_point_at_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "FORMATS", ("svg",))
    paths = draw.draw_all(PlotTables.of(records(), table()), tmp_path)
    found = inline_plots([*paths, tmp_path / "speedup.png"], "run1")
    assert [plot.title for plot in found[:2]] == ["Speed-up by suite", "Mean accepted tokens by suite"]
    ids = [re.findall(r'\bid="([^"]*)"', plot.svg) for plot in found]
    assert len({i for each in ids for i in each}) == sum(map(len, ids))
    for plot, own in zip(found, ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', plot.svg)) <= set(own)
        assert "http" not in plot.svg and ElementTree.fromstring(plot.svg).tag == "svg"
