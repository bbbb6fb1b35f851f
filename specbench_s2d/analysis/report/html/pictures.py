"""Pictures as SVG inside the page: `plots` drew them, here they get ids of their own and lose what a page has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

# What each picture of `plots.draw_all` is called.
_TITLES = {
    "speedup": "Speed-up by suite",
    "mat": "Mean accepted tokens by suite",
    "acceptance": "Acceptance rate by draft position",
    "radar": "Speed-up by suite, all decoders",
    "mean_speedup": "Mean speed-up over targets",
    "exit_depths": "Where drafted tokens leave the draft",
    "thresholds": "Speed-up by confidence thresholds",
    "ppl_k": "Perplexity by k",
    "rouge_k": "Task quality by k",
    "ppl_tau": "Perplexity by τ",
    "speed_tau": "Speed-up by τ",
    "mat_tau": "Mean accepted tokens by τ",
    "mat_gamma": "Mean accepted tokens at equal γ",
    "speed_ppl": "Speed-up beside perplexity",
    "energy": "Energy",
}


@dataclass(frozen=True)
class Picture:
    """A title, and an `<svg>` element that is safe to stand in a page beside others."""

    name: str
    title: str
    svg: Markup


def pictures(paths: Iterable[Path], prefix: str) -> list[Picture]:
    """The SVG files among `paths`, each with ids that begin with `prefix` and its name."""
    return [
        Picture(path.stem, title := _TITLES.get(path.stem, path.stem.replace("_", " ")),
                inline(path.read_text(encoding="utf-8"), f"{prefix}-{path.stem}-", title))
        for path in paths if path.suffix == ".svg"
    ]  # fmt: skip


def inline(svg: str, prefix: str, title: str) -> Markup:
    """The `<svg>` element of a file of ours: unique ids, no metadata, no fixed size, and a name for screen readers."""
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}", element)
    head, _, body = element.partition(">")
    head = re.sub(r'\s(?:width|height|xmlns(?::\w+)?|version)="[^"]*"', "", head)
    return Markup(f'{head} role="img" aria-label="{{}}">{{}}').format(title, Markup(body.replace("xlink:href", "href")))
