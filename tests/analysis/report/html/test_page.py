"""The page as text: what it names at the top, that it asks for nothing, and that it is written whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specbench_s2d.analysis.report.html import page
from tests.analysis.report.html.pages import manifest, run


def test_trouble_stands_at_the_top() -> None:
    (shown,) = page.context([run()])["runs"]
    assert shown["head"] == [
        "t, s2d: 1 of 2 turns failed.",
        "t, sd: 1 outputs differ from ar's.",
        "GPU busy: 80 % (at the start): End the other process.",
    ]
    text = page.page([run()])
    assert text.index("busy: 80 %") < text.index("out of memory") < text.index("What each column means")


def test_a_slow_baseline_stands_at_the_top() -> None:
    slow = run()
    slow.table["percent_of_bound"] = 39.0
    (shown,) = page.context([slow])["runs"]
    assert "a slow baseline flatters every method" in shown["head"][-1]


def test_records_stand_in_the_order_of_the_table() -> None:
    backwards = run(records=list(reversed(run().records)))
    (shown,) = page.context([backwards])["runs"]
    assert [row[1].text for row in shown["verdicts"].rows] == ["ar", "s2d", "sd", "mjsd †"]


def test_a_run_without_a_manifest_says_so() -> None:
    (shown,) = page.context([run(manifest=None)])["runs"]
    assert shown["head"][-1] == page.NO_MANIFEST
    assert "Run it again" not in page.page([run(manifest=None)])


def test_several_runs_share_one_page_under_ids_of_their_own() -> None:
    text = page.page([run(name="first"), run(name="second", manifest=manifest(conditions=None))])
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)
    assert text.count("<h1>") == 2 and text.count("What each column means") == 1


def test_the_same_run_gives_the_same_page_and_it_points_nowhere() -> None:
    text = page.page([run()])
    assert text == page.page([run()])
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    assert "default-src 'none'" in text


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    page.write_page([run()], path)
    before = path.read_text(encoding="utf-8")
    monkeypatch.setattr(page, "page", lambda runs: "\ud800")  # what no encoding writes
    with pytest.raises(UnicodeEncodeError):
        page.write_page([run()], path)
    assert path.read_text(encoding="utf-8") == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
