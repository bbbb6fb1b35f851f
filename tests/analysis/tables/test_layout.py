"""Within a width: words wrap, then long names get short forms, then columns are left out; no word is broken."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from specbench_s2d.analysis.tables.text import TextTable

LABEL = "s2d:thresholds=0.5+0.5+0,gamma=5"
SUITES = ["MT", "Transl", "Summ", "QA", "Math", "RAG", "All"]


def printed(table: TextTable, width: int, encoding: str = "utf-8") -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, color_system=None, soft_wrap=True).print(table)
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]


def speeds(rows: list[str], **settings: object) -> TextTable:
    values = [f"1.{i}1\n2.{i}2" for i in range(len(SUITES))]
    return TextTable(["Decoder", *SUITES], [[label, *values] for label in rows], **settings)  # type: ignore[arg-type]


def test_a_table_that_fits_takes_the_width_that_it_needs() -> None:
    assert printed(speeds(["sd"]), 80) == [
        "Decoder    MT  Transl  Summ    QA  Math   RAG   All",
        "─" * 51,
        "sd       1.01    1.11  1.21  1.31  1.41  1.51  1.61",
        "         2.02    2.12  2.22  2.32  2.42  2.52  2.62",
        "",
    ]


def test_columns_stand_closer_before_anything_is_cut() -> None:
    assert printed(speeds(["sd"]), 50)[0] == "Decoder   MT Transl Summ   QA Math  RAG  All"


def test_long_names_get_short_forms_with_what_they_stand_for() -> None:
    lines = printed(speeds([LABEL, f"{LABEL} †", "sd"]), 60)
    assert [line.split()[0] for line in lines[2:8:2]] == ["s2d#1", "s2d#1", "sd"]
    assert lines[4].split()[1] == "†" and lines[-2] == f"s2d#1: {LABEL}"
    assert max(map(len, lines)) <= 60
    assert LABEL in printed(speeds([LABEL]), 80)[2], "where there is room, the name itself"


def test_columns_that_find_no_room_are_left_out_and_named() -> None:
    lines = printed(speeds(["sd"], spare=range(6, 0, -1), elsewhere="summary.md"), 30)
    assert lines[0].split() == ["Decoder", "MT", "Transl", "Summ", "All"]
    assert "Left out at 30 columns: QA, Math, RAG; see summary.md." in " ".join(lines[4:])


def test_of_many_columns_the_first_are_named() -> None:
    table = TextTable(["d", *(f"c{i}" for i in range(60))], [["x", *["1.00"] * 60]])
    (said,) = (line for line in printed(table, 120) if line.startswith("Left out"))
    assert "more; see a wider terminal, or --json." in said


def test_words_wrap_and_values_stay_at_their_sides() -> None:
    rows = [["a label of some words\nPaper", "1.00\n2.00"], ["b", "3.00"]]
    lines = [line.split() for line in printed(TextTable(["Decoder", "a"], rows), 20)]
    places = {line[-1]: line[0] for line in lines if len(line) > 1}
    assert (places["1.00"], places["2.00"], places["3.00"]) == ("a", "Paper", "b")


def test_headings_wrap_before_values_are_left_out() -> None:
    table = TextTable(["Decoder", "speed-up in its run", "All [95 %]"], [["sd", "1.00", "2.00 [n = 5]"]])
    lines = printed(table, 34)
    assert lines[-2].split() == ["sd", "1.00", "2.00", "[n", "=", "5]"]
    assert "[95 %]" in "\n".join(lines), "a percent sign stays with its number"


def test_a_long_name_at_the_head_of_a_column_gets_a_short_form_too() -> None:
    names = [f"Llama-2-{size}-chat-hf-by-someone" for size in ("7b", "13b", "70b")]
    lines = printed(TextTable(["Decoder", *names], [["sd", "1.00", "1.10", "1.20"]]), 60)
    assert lines[0].split() == ["Decoder", "Llama-2-7b#1", "Llama-2-13#2", "Llama-2-70#3"]
    assert f"Llama-2-7b#1: {names[0]}" in lines


def test_a_word_longer_than_the_terminal_stands_whole() -> None:
    url = "https://github.com/" + "x" * 40
    lines = printed(TextTable(["name", "source"], [["qa", f"from {url}"]], left=2, names=0), 40)
    assert any(line.endswith(url) for line in lines)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_no_number_is_broken_at_any_width(width: int) -> None:
    lines = printed(speeds([LABEL, "recycling:scope=run,layers=6", "ar"]), width)
    numbers = [word for line in lines for word in line.split() if word[0] in "12" and "." in word]
    assert numbers and {len(word) for word in numbers} == {4}


def test_ascii_terminals_get_an_ascii_table() -> None:
    lines = printed(TextTable(["τ", "×"], [["mjsd †", "1.00–2.00"]], "γ"), 80, "ascii")
    assert lines == ["gamma", "tau             x", "-" * 17, "mjsd +  1.00-2.00", ""]
