"""Published figures: they are all there, they are checked, and a broken file is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.published import COLUMNS, published, read_published

HEADER = "paper,target,temperature,method,suite,metric,value,source\n"
ROW = "p,t,0.0,m,qa,speedup,1.5,somewhere\n"


def test_all_figures_of_all_papers_are_there_with_their_sources() -> None:
    table = published()
    counts = {"spec-bench": 328, "s2d": 431, "sd2": 2, "mjsd": 4, "mtad": 3}
    assert list(table.columns) == list(COLUMNS)
    assert table["paper"].value_counts().to_dict() == counts
    assert table["source"].str.len().min() > 0


@pytest.mark.parametrize(
    ("paper", "target", "method", "suite", "metric", "value"),
    [
        ("spec-bench", "vicuna-7b-v1.3", "SAMD[EAGLE2]", "overall", "mean_accepted_tokens", 4.61),
        ("s2d", "vicuna-7b", "SD vicuna-160m", "translation", "speedup", 0.78),
        ("mjsd", "mean over targets", "MJSD vs vanilla SD", "overall", "energy_ratio", 1.62),
    ],
)
def test_figures_read_as_printed(paper: str, target: str, method: str, suite: str, metric: str, value: float) -> None:
    table = published(paper)
    wanted = {"target": target, "method": method, "suite": suite, "metric": metric}
    for column, name in wanted.items():
        table = table[table[column] == name]
    assert value in list(table["value"])


def test_an_unknown_paper_brings_the_nearest_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown paper 'spec-bnch'.*'spec-bench'"):
        published("spec-bnch")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable CSV"),
        (HEADER.replace("value,", ""), "lacks value"),
        (HEADER.replace("method", "method,colour"), "unknown columns colour"),
        (HEADER + ROW.replace("1.5", "fast"), "line 2.*value is a positive number"),
        (HEADER + ROW + ROW.replace("qa", "rag").replace("1.5", "-1"), "line 3.*value is a positive number"),
        (HEADER + ROW.replace("speedup", "speed"), "line 2.*metric is one of"),
        (HEADER + ROW.replace("somewhere", ""), "line 2.*fills"),
        (HEADER + ROW.replace("0.0", "cold"), "line 2.*temperature is a number from 0"),
        (HEADER + ROW + ROW.replace("1.5", "1.6"), "line 3.*one row per figure"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_published(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sound_file_reads(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(HEADER + ROW)
    table = read_published(tmp_path / "own.csv")
    assert table.loc[0, "value"] == 1.5
    assert table.loc[0, "device"] is None
