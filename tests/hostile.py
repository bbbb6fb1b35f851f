"""Names that someone might give to a model, a decoder, a question or a suite, and what must not become of them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree as xml

from rich.markdown import Markdown

from specbench_s2d.display import visible

NAMES = (
    "x[/b] [red]model[v1]",
    "\x1b[31mred\x1b]0;title\x07 \x9b1m back\x08 \u202egpj.exe",
    "=HYPERLINK(1)",
    "a|b `c` **d** <script>alert(1)</script> <!-- $x^{2}$ &amp;",
    "line\nbreak\r\ttab",
    r"\input{x} 100% #1 a_b ~ ^",
    "](http://x) -- @all",
)
"""Markup of rich, control sequences, a formula, Markdown, HTML and mathtext, line breaks, LaTeX, a link."""


def check_text(text: str, where: str) -> None:
    """What a terminal or a log gets: nothing that acts, and no name cut out."""
    assert visible(text, keep="\n") == text, where


def check_file(path: Path, safe_csv: bool) -> None:
    """A file of one of our formats: it holds what it should, and nothing in it acts."""
    content = path.read_bytes()
    if path.suffix in (".png", ".parquet"):
        return
    text = content.decode("utf-8")
    if path.suffix in (".md", ".tex", ".html", ".svg", ".xml"):
        check_text(text.replace("\t", " "), path.name)
    if path.suffix in (".json", ".jsonl"):
        for document in text.splitlines() if path.suffix == ".jsonl" else [text]:
            json.loads(document)
    if path.suffix in (".xml", ".svg"):
        xml.fromstring(content)
    if path.suffix == ".md":
        tokens = [part for token in Markdown(text).parsed for part in (token, *(token.children or ()))]
        assert not [token for token in tokens if token.type == "link_open" and token.attrGet("href") == "http://x"]
        text = "".join(token.content for token in tokens if token.type in ("html_inline", "html_block"))
    if path.suffix in (".md", ".html", ".svg"):
        assert "<script>alert" not in text and "<!--" not in text, path.name
    if path.suffix == ".csv" and safe_csv:
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert len({len(row) for row in rows}) == 1, "every row has all columns"
        assert [cell for row in rows for cell in row if cell.startswith("=")] == []
