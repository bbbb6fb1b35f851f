"""Plots as SVG inside the page: each gets ids of its own and loses what a page has once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from specbench_s2d.analysis.report.plots.draw import title_of


@dataclass(frozen=True)
class InlinePlot:
    """A title, and an `<svg>` element that is safe to stand in a page with others."""

    name: str
    title: str
    svg: Markup


def inline_plots(paths: Iterable[Path], prefix: str) -> list[InlinePlot]:
    """The SVG files among `paths`, each with ids that begin with `prefix` and its name."""
    return [
        InlinePlot(path.stem, title := title_of(path.stem),
                inline(path.read_text(encoding="utf-8-sig"), f"{prefix}-{path.stem}-", title))
        for path in paths if path.suffix == ".svg"
    ]  # fmt: skip


def inline(svg: str, prefix: str, title: str) -> Markup:
    """The `<svg>` element of a file of ours: unique ids, no metadata, no fixed size, and a name for screen readers."""
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}", element)
    head, _, body = element.partition(">")
    head = re.sub(r'\s(?:width|height|xmlns(?::\w+)?|version)="[^"]*"', "", head)
    return Markup(f'{head} role="img" aria-label="{{}}">{{}}').format(title, Markup(body.replace("xlink:href", "href")))
