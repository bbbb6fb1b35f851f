"""A target's tables: what stands in each cell, and which cells are coloured."""

from __future__ import annotations

import pytest

from specbench_s2d.analysis.metrics.columns import columns_of
from specbench_s2d.analysis.report.html import headline
from specbench_s2d.analysis.report.html.table import HtmlCell, HtmlTable
from specbench_s2d.analysis.tables.summary import summary_table
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import paper_run
from tests.analysis.report.html.pages import records, table
from tests.analysis.tables.test_remarks import SENTENCE, timed_run

[SPEED] = columns_of(["speedup"])


def by_decoder(shown: HtmlTable) -> dict[str, dict[str, HtmlCell]]:
    """Cells by decoder and heading."""
    return {
        str(row[0].value): {heading.text: cell for heading, cell in zip(shown.headings, row, strict=True)}
        for row in shown.rows
    }


def row(label: str, speedup: float | None, low: float | None, high: float | None) -> dict[str, object]:
    ends = {"speedup_low": low, "speedup_high": high, "speedup_n": None if speedup is None else 6}
    return {"label": label, "speedup": speedup, **ends, "notes": "speedup: no AR"}


@pytest.mark.parametrize(
    ("label", "ends", "tone"),
    [
        ("sd", (1.01, 2), "up"),
        ("sd", (0.5, 0.99), "down"),
        ("sd", (0.9, 1.1), ""),
        ("sd", (1.0, 2.0), ""),
        ("ar", (1.5, 2.0), ""),
        ("sd", (None, None), ""),
    ],
)
def test_colour_says_that_the_whole_interval_leaves_out_one(
    label: str, ends: tuple[float | None, float | None], tone: str
) -> None:
    assert headline.speedup(row(label, 1.2, *ends), SPEED).tone == tone


def test_a_missing_speedup_is_a_dash_with_the_reason() -> None:
    cell = headline.speedup(row("sd", None, None, None), SPEED)
    assert (cell.text, cell.value, cell.reason) == ("–", None, "no AR")


def test_speedups_by_suite_and_figures_over_all() -> None:
    (target,) = headline.targets(table())
    cells = by_decoder(target.tables[0])
    assert list(cells) == ["ar", "s2d", "sd", "mjsd"]
    assert cells["sd"]["all suites"] == HtmlCell("10.00", pytest.approx(10), "n = 2"), "too few to shade"
    assert cells["ar"]["all suites"] == HtmlCell("1.00", 1.0)
    assert cells["sd"]["RAG"].text == "10.00" and cells["mjsd"]["RAG"].reason == "the decoder was not run on this suite"
    assert cells["mjsd"]["output"].text == "lossy" and cells["sd"]["output"].text == "lossless"
    assert cells["sd"]["MAT"].text == "4.00"
    assert cells["sd"]["J/token"].reason


def test_a_target_says_why_its_decoders_are_slower_or_faster() -> None:
    (target,) = headline.targets(summary_table(timed_run()))
    assert [why.startswith(f"sd on t: {SENTENCE}") for why in target.whys] == [True]
    (untimed,) = headline.targets(table())
    assert untimed.whys == []


def test_an_interval_stands_below_its_value_with_its_questions_shaded_and_drawn() -> None:
    low, high = ends_of_three_copies(5, 5.6, 4.4, (4, 16))
    (target,) = headline.targets(summary_table(paper_run(3)))
    cells = by_decoder(target.tables[0])["sd"]
    assert cells["all suites"] == HtmlCell("5.00", pytest.approx(5), f"{low:.2f}–{high:.2f}, n = 6", tone="up")
    drawn = next(cell for heading, cell in cells.items() if heading.startswith("interval"))
    assert drawn.style and drawn.tone == "whisker up"


def test_below_five_questions_nothing_is_shaded_or_drawn_and_their_number_is_shown() -> None:
    (target,) = headline.targets(summary_table(paper_run()))
    cells = by_decoder(target.tables[0])["sd"]
    assert cells["all suites"] == HtmlCell("5.00", pytest.approx(5), "n = 2")
    assert cells["MAT"].small == "n = 2"
    drawn = next(cell for heading, cell in cells.items() if heading.startswith("interval"))
    assert (drawn.text, drawn.style, drawn.tone) == ("–", "", "")
    assert drawn.reason == "n = 2: no interval from fewer than 5 questions"


def test_the_note_says_how_many_launches_the_intervals_stand_on() -> None:
    again = [r.model_copy(update={"launch": 1, "key": f"{r.key}/1"}) for r in paper_run(3)]
    (one,), (two,) = (headline.targets(summary_table(run)) for run in (paper_run(3), [*paper_run(3), *again]))
    assert "interval from n questions within this launch" in one.tables[0].note
    assert "interval from n questions and 2 launches." in two.tables[0].note


def test_every_suite_and_figure_stands_in_the_full_table() -> None:
    (target,) = headline.targets(table())
    assert len(target.full.rows) == len(table())
    assert {"tokens/s", "speed-up", "Spec-Bench's", "predicted", "failed"} <= {
        heading.text for heading in target.full.headings
    }
    failed = [heading.text for heading in target.full.headings].index("failed")
    assert [r[failed].value for r in target.full.rows if r[0].value == "s2d"] == [0, 1, 1]


def test_intervals_stand_on_a_logarithmic_scale_that_holds_one() -> None:
    scale = headline.Scale(0.25, 4, SPEED)
    assert [scale.percent(x) for x in (0.25, 0.5, 1, 4)] == ["0.0%", "25.0%", "50.0%", "100.0%"]
    fast = headline.Scale.of([row("sd", 3, 2, 4)], SPEED)
    assert (fast.low, fast.high) == pytest.approx((1 / 1.05, 4 * 1.05))  # the ends, not the number of questions
    style = fast.cell(row("sd", 3, 2, 4)).style
    assert [part.split(":")[0] for part in style.split(";")] == ["--low", "--high", "--at", "--one"]


def test_an_imported_run_shows_the_speed_up_with_the_prefill() -> None:
    imported = [r.model_copy(update={"decode_s": None}) for r in records()]
    shown = headline.targets(table(imported))[0].tables[0]
    rows = summary_table(imported).set_index(["label", "suite"])
    assert by_decoder(shown)["sd"]["all suites"].value == pytest.approx(rows.loc[("sd", "overall"), "speedup_e2e"])
    assert "tokens/s, prefill included" in shown.note and "decode tokens/s" not in shown.note


def test_task_quality_has_a_table_only_where_something_was_scored() -> None:
    assert [shown.caption for shown in headline.targets(table())[0].tables][-1] != "Task quality"
    scored = [r.model_copy(update={"quality": {"f1": 0.5}}) for r in records()]
    quality = headline.targets(table(scored))[0].tables[-1]
    assert quality.caption == "Task quality"
    assert by_decoder(quality)["sd"]["F1"].text == "0.50"


def test_repetition_stands_in_the_same_table_beside_lossy_decoders_alone() -> None:
    told = [r.model_copy(update={"output_ids": [1, 2] * 5, "quality": {"f1": 0.5}}) for r in records()]
    text = headline.targets(table(told))[0].tables[-1]
    assert text.caption == "Task quality and repetition"
    cells = by_decoder(text)["mjsd"]
    assert [cells[name].text for name in ("F1", "distinct-1", "distinct-2", "loops")] == [
        "0.50",
        "0.20",
        "0.22",
        "1.00",
    ]
    lossless = headline.targets(table([r for r in told if not r.lossy]))[0]
    assert lossless.tables[-1].caption == "Task quality"
    assert "loops" not in {heading.text for heading in lossless.full.headings}
