"""A run and a paper: which row is compared with which, and the paper's values as printed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from specbench_s2d.analysis.compare.papers import compare_published
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.errors import UnknownNameError, UserError
from tests.analysis.factory import ar, decoded, paper_run
from tests.analysis.report.grid import grid_run
from tests.refusals import refused

STAND_INS = ["demo-s=vicuna-7b", "demo-m=vicuna-13b", "demo-l=llama-2-70b-chat", "sd:draft=demo-tiny=SD vicuna-160m"]
RUN = grid_run(5)
DEMO = compare_published(RUN, "demo", "s2d", 0.0, STAND_INS)


def figure(**where: str) -> dict[str, Any]:
    table = DEMO.table
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return {str(name): value for name, value in table.iloc[0].items()}


def test_the_paper_s_figures_stand_beside_ours_as_printed() -> None:
    found = figure(target="demo-s", label="sd:exit=2", suite="mt_bench", metric="speedup")
    assert (found["paper_target"], found["method"], found["published"]) == ("vicuna-7b", "SD SoFT L6", 1.38)
    assert found["ours_low"] < found["ours"] < found["ours_high"] and found["ours_n"] == 5
    accepted = figure(target="demo-l", label="sd:draft=demo-draft-sft,exit=3", metric="mean_accepted_tokens")
    assert (accepted["suite"], accepted["published"]) == ("mt_bench", 1.80)
    assert pd.isna(accepted["ours_low"]) and pd.isna(accepted["ours_n"])


def test_both_sides_have_their_mean_over_targets() -> None:
    found = figure(target="mean over targets", label="sd:draft=demo-tiny", suite="mt_bench", metric="speedup")
    assert found["published"] == pytest.approx((1.05 + 1.13 + 1.93) / 3)
    parts = DEMO.table[(DEMO.table["label"] == "sd:draft=demo-tiny") & (DEMO.table["suite"] == "mt_bench")]
    assert found["ours"] == pytest.approx(parts["ours"].iloc[:3].mean())


def test_blocks_show_both_names_and_both_figures() -> None:
    table = DEMO.shown[0]
    assert table.title == "demo-s compared with vicuna-7b: speed-up"
    assert table.headings[1:] == ["MT", "Transl", "Summ", "QA", "Math", "RAG"]
    row = next(row for row in table.rows if row[0] == "sd:exit=2\nSD SoFT L6")
    assert row[1].endswith("\n1.38")
    notes = " ".join(DEMO.notes)
    assert "they are the same models: demo-s – vicuna-7b, demo-m – vicuna-13b, demo-l – llama-2-70b-chat." in notes
    assert "Exits 2, 3, 4 stand for the paper's 6, 9, 12, by their place." in notes
    assert "Without a row in published:s2d: s2d-tree, s2d-auto;" in notes


def test_mean_accepted_tokens_are_counted_as_the_paper_counts_them() -> None:
    found = figure(target="demo-s", label="s2d", suite="mt_bench", metric="mean_accepted_tokens")
    row = summary_table(RUN).set_index(["target", "label", "suite"]).loc[("demo-s", "s2d", "mt_bench")]
    assert found["ours_column"] == "mat_specbench"
    assert found["ours"] == row["mat_specbench"] > row["mat"]
    assert any(t.title == "demo-s compared with vicuna-7b: mean accepted tokens (mat_specbench)" for t in DEMO.shown)
    assert "Mean accepted tokens are counted as the paper counts them: mat_specbench." in DEMO.notes


def test_models_that_are_none_of_the_paper_s_stand_beside_nothing() -> None:
    flags = "--as demo-s=vicuna-7b --as demo-m=vicuna-13b --as demo-l=llama-2-70b-chat."
    with refused(UserError, "nothing in common: demo-s, demo-m, demo-l are no models of published:s2d", flags):
        compare_published(grid_run(1), "demo", "s2d", 0.0)
    part = compare_published(grid_run(1), "demo", "s2d", 0.0, STAND_INS[:1])
    assert set(part.table["target"]) == {"demo-s"}
    assert "No counterpart: demo-m, demo-l are no models of published:s2d" in " ".join(part.notes)


def test_a_run_at_temperature_1_meets_figures_of_the_same_draft_sampling() -> None:
    steps = {"decode_s": 1.0, "suite": "mt_bench", "target": "vicuna-7b", "draft": "double7/vicuna-160m"}
    drawn = decoded("sd", 1, [(3, 3, 4)], decoder_options={"sampling": "run"}, **steps)
    greedy = decoded("sd:sampling=greedy", 1, [(3, 3, 4)], decoder_options={"sampling": "greedy"}, **steps)
    run = [ar(1, 5, decode_s=4, suite="mt_bench", target="vicuna-7b"), drawn, greedy]
    table = compare_published(run, "hot", "s2d", 1.0).table
    values = dict(zip(table["label"], table["published"], strict=True))
    assert values == {"sd": 0.96, "sd:sampling=greedy": 1.02}


def test_without_decode_times_ours_is_shown_by_spec_benchs_formula_and_said_so() -> None:
    """(5/3 + 9/4) / (4/5 + 9/18) = 3.01; Spec-Bench's SpS stands beside sd at any gamma."""
    where = {"suite": "mt_bench", "target": "lmsys/vicuna-7b-v1.3", "draft": "double7/vicuna-68m"}
    run = [r.model_copy(update={"decode_s": None, **where}) for r in paper_run()]
    comparison = compare_published(run, "r", "spec-bench", 0.0)
    assert comparison.shown[0].rows[0][1].startswith("3.01\n")
    notes = " ".join(comparison.notes)
    assert "Without decode times, ours is shown by Spec-Bench's formula: sd." in notes
    assert "The paper drafts by gamma=heuristic; not so sd." in notes
    timed = compare_published([r.model_copy(update=where) for r in paper_run()], "r", "spec-bench", 0.0)
    assert timed.shown[0].rows[0][1].startswith("5.00\n") and "Without decode times" not in " ".join(timed.notes)


def test_what_has_no_counterpart_is_one_line() -> None:
    with refused(UnknownNameError, "unknown paper 's2'", "Did you mean", "'s2d'"):
        compare_published(paper_run(), "r", "s2", 0.0)
    with refused(UserError, "values at temperature 0, 1", "the run was at 0.7"):
        compare_published(paper_run(), "r", "s2d", 0.7)
    with refused(UserError, "no finished 'ar'"):
        compare_published([r for r in paper_run() if r.label == "sd"], "r", "s2d", 0.0)
    with refused(UserError, "nothing in common: r has sd", "MJSD vs vanilla SD"):
        compare_published(paper_run(), "r", "mjsd", 0.0)
