"""One table of text in its three forms, and how numbers are written."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from specbench_s2d.analysis.tables.text import (
    Entry,
    Prose,
    TextTable,
    interval,
    latex_text,
    number,
    stands_on,
    terminal_tables,
    with_interval,
)

TABLE = TextTable(
    ["Decoder", "All [95 %]", "MAT"],
    [["sd", Entry("1.50", bold=True), "2.40"], ["mjsd | *a* †", "0.50\n0.40 to 0.60", "–"]],
    title="t",
    caption="100 % of the turns.",
)


def printed(table: TextTable, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(terminal_tables([table], ["a note"]))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_title_rows_caption_and_notes() -> None:
    lines = [line.rstrip() for line in printed(TABLE).splitlines()]
    assert lines[0] == "t" and lines[-3:] == ["100 % of the turns.", "", "a note"]
    assert lines[1:4] == [
        "Decoder         All [95 %]   MAT",
        "─" * 32,
        "sd                    1.50  2.40",
    ]


def test_a_terminal_takes_a_label_like_markup_as_it_is() -> None:
    assert "[bold]x[/bold]" in printed(TextTable(["Decoder"], [["[bold]x[/bold]"]]))


def test_a_note_is_one_paragraph_whatever_its_names_hold() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(Prose("a\nb\x1b"))
    assert console.file.getvalue() == "a\\nb\\x1b\n"  # type: ignore[attr-defined]


def test_markdown_escapes_and_joins_stacked_values() -> None:
    assert TABLE.markdown() == (
        "| Decoder | All [95 %] | MAT |\n"
        "| --- | ---: | ---: |\n"
        "| sd | **1.50** | 2.40 |\n"
        "| mjsd \\| \\*a\\* † | 0.50 / 0.40 to 0.60 | – |"
    )
    assert TABLE.markdown_section() == f"## t\n\n{TABLE.markdown()}\n\n100 % of the turns."


def test_latex_has_booktabs_rules_bold_and_a_caption() -> None:
    lines = TABLE.latex("tab:t").splitlines()
    assert lines[2:5] == [r"\caption{100 \% of the turns.}", r"\label{tab:t}", r"\begin{tabular}{lrr}"]
    assert lines[6:9] == [r"Decoder & All {[}95 \%{]} & MAT \\", r"\midrule", r"sd & \textbf{1.50} & 2.40 \\"]
    assert r" & \shortstack[r]{0.50 \\ {\scriptsize 0.40 to 0.60}} & " in lines[9]
    assert lines[-1] == r"\end{table*}"


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("a_b&c%d#e$f", r"a\_b\&c\%d\#e\$f"),
        ("{~^\\}", r"\{\textasciitilde{}\textasciicircum{}\textbackslash{}\}"),
        ("s2d:thresholds=0.5+0", "s2d:thresholds=0.5+0"),
        ("[a] --against", "{[}a{]} -{}-against"),
        ("\x1b`\n\n%", r"\textbackslash{}x1b\textasciigrave{}  \%"),
    ],
)
def test_latex_prints_any_text(text: str, tex: str) -> None:
    assert latex_text(text) == tex


def test_missing_numbers_are_dashes() -> None:
    assert (number(None), number(float("nan")), number(2, "d")) == ("–", "–", "2")
    assert (interval(None, None), interval(1, 2, ".1f")) == ("–", "1.0–2.0")


def test_the_questions_stand_beside_every_interval_and_where_they_are_too_few_for_one() -> None:
    assert with_interval(1.5, 1, 2, 12) == "1.50 [1.00–2.00, n = 12]"
    assert with_interval(1.5, None, None, 2, ".1f") == "1.5 [n = 2]"
    assert with_interval(None, None, None, 0) == with_interval(float("nan"), None, None, pd.NA) == "–"
    assert with_interval(1.5, 1, 2, 12.0) == "1.50 [1.00–2.00, n = 12]", "pandas makes floats of whole numbers"
    assert with_interval(1.6, None, None, None) == "1.60", "a value that is not one of questions"
    assert stands_on(480) == "n = 480"
