"""Published figures: they are all there, they are checked, and a broken file is named with its line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from specbench_s2d import paper_names, resources
from specbench_s2d.analysis.compare import draft_roles
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.published import COLUMNS, column_as, published, read_published

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
        ("", "lacks paper"),
        (HEADER.replace("value", "value,value"), "names a column twice"),
        (HEADER + "p,t\n", "line 2.*a row has 8 cells"),
        (HEADER + "\n" + ROW.replace("1.5", "1e999"), "line 3.*value is a positive number"),
        (HEADER + ROW.replace("m,", "a\x1b[2Jb,"), "line 2.*method is text"),
        (HEADER + ROW.replace("m,", '"m,'), "not a readable CSV"),
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


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("models.csv", "billions", "size", "lacks billions"),
        ("models.csv", ",7,", ",nan,", "line 2: .*billions is a positive number"),
        ("targets.csv", "s2d,vicuna-7b,vicuna,7", "s2d,vicuna-7b,vicuna,", "line 2: .*a row fills billions"),
        ("targets.csv", "s2d,vicuna-7b,", "s2d,vicuna-8b,", "no row for the target vicuna-7b of s2d"),
        ("methods.csv", "gamma=heuristic", "gamma", "line 2: .*settings is name=value"),
        ("methods.csv", ",12,", ",twelve,", "line 3: .*exit is a layer"),
        ("drafts.csv", "sorted", "sorted draft", "line 2: .*role is one of sorted, plain, other"),
        ("conventions.csv", "mat_specbench", "tokens", "line 2: .*mean_accepted_tokens is one of mat, mat_specbench"),
    ],
)
def test_the_tables_beside_the_figures_are_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, message: str
) -> None:
    damaged = tmp_path / "results" / "published"
    shutil.copytree(resources.data_folder("results/published"), damaged)
    text = (damaged / file).read_text(encoding="utf-8")
    (damaged / file).write_text(text.replace(old, new), encoding="utf-8")
    readers = (paper_names._models, paper_names._targets, paper_names._methods, draft_roles._published_roles, column_as)
    for reader in readers:
        reader.cache_clear()
    monkeypatch.setattr(resources, "_BUNDLED", tmp_path)

    def read_all() -> None:
        paper_names.paper_target("s2d", "lmsys/vicuna-7b-v1.5", ["vicuna-7b"])
        paper_names.paper_methods("s2d")
        draft_roles.draft_role("JackFram/llama-68m")
        column_as("s2d", "speedup")

    try:
        with pytest.raises(UserError, match=message):
            read_all()
    finally:
        for reader in readers:
            reader.cache_clear()


def test_a_sound_file_reads(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(HEADER + ROW)
    table = read_published(tmp_path / "own.csv")
    assert table.loc[0, "value"] == 1.5
    assert table.loc[0, "device"] is None
