"""A projection is marked wherever a run is shown, and a measured run bears no such mark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from specbench_s2d.analysis.compare.comparison import Comparison
from specbench_s2d.analysis.compare.decoders import compare_decoders
from specbench_s2d.analysis.compare.papers import compare_published
from specbench_s2d.analysis.compare.runs import compare_runs
from specbench_s2d.analysis.gate.comparability import comparability
from specbench_s2d.analysis.report import write as report
from specbench_s2d.analysis.report.plots import draw
from specbench_s2d.analysis.tables import summary_text
from specbench_s2d.analysis.tables.naming import PROJECTED_MARK, PROJECTED_NOTE
from specbench_s2d.analysis.tables.series import PlotTables
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.analysis.tables.text import Entry
from specbench_s2d.exchange import export, leaderboard
from specbench_s2d.runs.record import Record, parse_record
from tests.analysis.factory import paper_run

REASON = "random weights, scripted acceptances"
SENTENCE = f"Projected, not measured ({REASON}): sd."


def projected_run() -> list[Record]:
    return [r.model_copy(update={"projected": REASON if r.label == "sd" else None}) for r in paper_run()]


def shown(what: object) -> str:
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed with the process
    console.print(what)
    return console.export_text()


def test_the_terminal_s_table() -> None:
    text = shown(summary_text.render(summary_table(projected_run())))
    assert f"sd {PROJECTED_MARK}" in text and PROJECTED_NOTE in text and SENTENCE in text
    assert "roject" not in shown(summary_text.render(summary_table(paper_run())))


def test_summary_csv_and_md(tmp_path: Path) -> None:
    summary_text.write_tables(summary_table(projected_run()), tmp_path)
    assert f",{REASON!r},".replace("'", '"') in (tmp_path / "summary.csv").read_text()
    text = (tmp_path / "summary.md").read_text()
    assert f"sd {PROJECTED_MARK}" in text and f"**{SENTENCE}**" in text and PROJECTED_NOTE in text


def test_the_page(tmp_path: Path) -> None:
    report.write_summary(projected_run(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    banner = page[page.index("Read this first") :].partition("</aside>")[0]
    assert SENTENCE in banner
    assert f"sd {PROJECTED_MARK}" in page and PROJECTED_NOTE in page and ">projected<" in page
    report.write_summary(paper_run(), tmp_path)
    assert PROJECTED_MARK not in (tmp_path / "report.html").read_text()


def test_every_picture_s_title_and_legend(pictures: None, tmp_path: Path) -> None:
    written = {}
    for name, records in (("projected", projected_run()), ("measured", paper_run())):
        drawn = draw.draw_all(PlotTables.of(records, summary_table(records)), tmp_path / name)
        written[name] = [path.read_text() for path in drawn if path.suffix == ".svg"]
    assert written["projected"]
    assert all(SENTENCE in svg for svg in written["projected"])
    assert any(f"sd {PROJECTED_MARK}" in svg for svg in written["projected"])
    assert not any("roject" in svg for svg in written["measured"])


def test_the_leaderboard_marks_it_and_never_calls_it_best() -> None:
    (board,) = leaderboard.boards(summary_table(projected_run()), {})
    title, *cells = board.rows[1]
    assert title == f"sd {PROJECTED_MARK}" and not any(cell.bold for cell in cells if isinstance(cell, Entry))
    assert PROJECTED_NOTE in board.caption
    assert r"$^\ddagger$" in leaderboard.latex([board])
    (board,) = leaderboard.boards(summary_table(paper_run()), {})
    assert any(cell.bold for cell in board.rows[1] if isinstance(cell, Entry))


def test_exported_tables_carry_the_reason(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "records.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in projected_run()))
    export.export(tmp_path / "run", "csv", tmp_path / "out")
    assert all(REASON in (tmp_path / "out" / name).read_text() for name in ("summary.csv", "records.csv"))


@pytest.mark.parametrize(
    "comparison",
    [
        compare_decoders(projected_run(), "ar"),
        compare_runs(projected_run(), paper_run(), ("a", "b")),
        compare_runs(paper_run(), projected_run(), ("a", "b")),
        compare_published(projected_run(), "a", "spec-bench", 0.0, ["t=vicuna-7b-v1.3", "sd=SpS"]),
    ],
)
def test_comparisons(comparison: Comparison) -> None:
    text = shown(comparison.terminal())
    assert f"sd {PROJECTED_MARK}" in text and PROJECTED_NOTE in text


def verdicts(ours: Sequence[Record], base: Sequence[Record]) -> dict[str, tuple[str, str]]:
    return {check.rule: (check.verdict, check.why or "") for check in comparability({}, {}, ours, base)}


def test_the_gate_compares_projections_with_their_like_alone() -> None:
    assert "projected" not in verdicts(paper_run(), paper_run())
    assert verdicts(projected_run(), projected_run())["projected"][0] == "holds"
    verdict, why = verdicts(projected_run(), paper_run())["projected"]
    assert verdict == "incomparable"
    assert why == f"t, sd: {REASON}, the baseline has measured"


def test_records_from_before_read_as_measured() -> None:
    row = paper_run()[0].model_dump()
    del row["projected"]
    assert parse_record(row, "x").projected is None
