"""Tables as CSV, and without anything that a spreadsheet runs."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from specbench_s2d.analysis.tables.csv_text import csv_text


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd|x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "--", "-"])
def test_text_that_begins_as_a_formula_gets_an_apostrophe_on_request(text: str) -> None:
    table = pd.DataFrame({"label": [text, "sd"], "speedup": [1.5, -0.25]})
    for safe, expected in ((False, text), (True, f"'{text}")):
        read = pd.read_csv(io.StringIO(csv_text(table, safe), newline=""), lineterminator="\n", keep_default_na=False)
        assert list(read["label"]) == [expected, "sd"]


def test_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"text": ["-1.5", "+2", "-3e-7"], "value": [-1.5, None, -2.0], "mixed": [-1, "-x", None]})
    assert csv_text(table, safe=True) == "text,value,mixed\n-1.5,-1.5,-1\n+2,,'-x\n-3e-7,-2.0,\n"


def test_headings_are_text_too() -> None:
    assert csv_text(pd.DataFrame({"quality_=x": [1], "=y": [2]}), safe=True).splitlines()[0] == "quality_=x,'=y"


def test_counts_with_gaps_stay_counts() -> None:
    table = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "lossy": [True, False]})
    assert csv_text(table, safe=True) == csv_text(table) == "n,lossy\n1,True\n,False\n"
