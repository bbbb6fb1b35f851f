"""The tidy table: its rows, its columns, and what it says of cells that are lost."""

from __future__ import annotations

import math
import random

import pandas as pd
import pytest

from specbench_s2d.analysis.metrics.columns import COLUMNS, definitions
from specbench_s2d.analysis.tables import summary_text
from specbench_s2d.analysis.tables.series import (
    ABLATION_COLUMNS,
    EXIT_COLUMNS,
    POSITION_COLUMNS,
    acceptance_by_position,
    exit_depths,
    threshold_ablation,
)
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, summary_table
from specbench_s2d.runs.record import Record
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import ar, decoded, make_record, paper_run

DESIGNED = [
    "target",
    "label",
    "lossy",
    "suite",
    "questions",
    "tokens_per_s",
    "percent_of_bound",
    "speedup",
    "speedup_low",
    "speedup_high",
    "speedup_n",
    "launches",
    "speedup_e2e",
    "speedup_specbench",
    "speedup_predicted",
    "mat",
    "accepted_per_pass",
    "acceptance_rate",
    "draft_layers_per_token",
    "mean_exit_depth",
    "draft_s",
    "verify_s",
    "other_s",
    "perplexity",
    "energy_j_per_token",
    "mismatches",
    "near_ties",
    "failed",
    "skipped",
]


def row(table: pd.DataFrame, label: str, suite: str = "overall", target: str = "t") -> pd.Series:
    found = table[(table["target"] == target) & (table["label"] == label) & (table["suite"] == suite)]
    assert len(found) == 1
    return found.iloc[0]


def test_the_paper_run_gives_the_paper_numbers() -> None:
    sd = row(summary_table(paper_run()), "sd", "qa")
    expected = {
        "questions": 2, "launches": 1, "records": 2, "new_tokens": 14, "steps": 5, "pairs": 2, "unpaired": 0,
        "tokens_per_s": 3, "mat": 2.4, "mean_mat_per_question": 8 / 3, "accepted_per_pass": 1.8,
        "tokens_per_pass": 2.4, "acceptance_rate": 9 / 13, "perplexity": 2.718281828, "speedup": 5,
        "speedup_e2e": 23 / 7, "speedup_specbench": 235 / 78, "failed": 0, "skipped": 0, "truncated": 0,
    }  # fmt: skip
    assert {column: sd[column] for column in expected} == pytest.approx(expected)


def test_six_questions_have_intervals_and_their_number_beside_them() -> None:
    """Three of either kind: values as of one of either, ends from leaving one of the first kind out, or of the
    second."""
    sd = row(summary_table(paper_run(3)), "sd", "qa")
    intervals = {
        "speedup": (5, 5.6, 4.4, (4, 16)),
        "mat": (2.4, 8 / 3, 28 / 13, (3, 2)),
        "perplexity": (math.e, math.exp(38 / 37), math.exp(32 / 33), (5, 9)),
    }
    for column, (value, *without, weights) in intervals.items():
        assert sd[column] == pytest.approx(value)
        ends = ends_of_three_copies(value, *without, weights)
        assert (sd[f"{column}_low"], sd[f"{column}_high"]) == pytest.approx(ends)
        assert sd[f"{column}_n"] == 6 and f"{column}_low" not in sd["notes"]


def test_fewer_than_five_questions_have_values_and_no_interval_and_say_why() -> None:
    run = paper_run(3)
    four, five = (row(summary_table([r for r in run if int(r.question_id) <= n]), "sd") for n in (4, 5))
    assert four["speedup"] == pytest.approx(5)
    for column in ("speedup", "mat", "perplexity"):
        assert pd.isna(four[f"{column}_low"]) and pd.isna(four[f"{column}_high"]) and four[f"{column}_n"] == 4
        assert f"{column}_low: n = 4: no interval from fewer than 5 questions" in four["notes"]
        assert five[f"{column}_low"] < five[column] < five[f"{column}_high"] and five[f"{column}_n"] == 5


def test_launches_are_counted_and_each_question_once() -> None:
    again = [r.model_copy(update={"launch": 1, "key": f"{r.key}/1"}) for r in paper_run(3)]
    table = summary_table([*paper_run(3), *again])
    sd = row(table, "sd")
    assert (sd["launches"], sd["questions"], sd["records"], sd["pairs"]) == (2, 6, 12, 12)
    assert (sd["speedup"], sd["speedup_n"]) == (pytest.approx(5), 6)
    alike = row(summary_table(paper_run(3)), "sd")
    assert sd["speedup_low"] == pytest.approx(alike["speedup_low"]), "launches that agree add nothing"


def test_a_row_says_every_option_that_its_decoder_ran_with() -> None:
    options = {"draft": None, "gamma": 4, "tau": 0.5, "thresholds": [0.5, 0.0], "exit": None}
    table = summary_table([r.model_copy(update={"decoder_options": options, "draft": "d"}) for r in paper_run()])
    assert set(table["options"]) == {"gamma=4, tau=0.5, thresholds=0.5+0"}
    assert "- `sd`: draft d; gamma=4, tau=0.5, thresholds=0.5+0." in summary_text.markdown(table)


def test_every_designed_column_is_there_and_every_column_is_defined() -> None:
    table = summary_table(paper_run())
    assert set(DESIGNED) <= set(table.columns)
    others = {*POSITION_COLUMNS, *EXIT_COLUMNS, *ABLATION_COLUMNS}
    assert set(table.columns) | others <= set(definitions())


def test_without_likelihoods_there_is_no_perplexity_nor_its_interval() -> None:
    lost = {"nll_sum": None, "reasons": {"nll_sum": "no memory for the pass"}}
    sd = row(summary_table([r.model_copy(update=lost) for r in paper_run(3)]), "sd")
    assert all(pd.isna(sd[f"perplexity{end}"]) for end in ("", "_low", "_high", "_n"))
    assert "perplexity: 6 of 6 cells carry no nll_sum or new_tokens (no memory for the pass)" in sd["notes"]
    assert sd["mat_low"] < 2.4


def test_ar_is_exactly_one_against_itself() -> None:
    alone = row(summary_table(paper_run(3)), "ar")
    assert (alone["speedup"], alone["speedup_low"], alone["speedup_high"], alone["mat"]) == (1.0, 1.0, 1.0, 1.0)


def test_rows_come_in_reading_order_whatever_the_order_of_records() -> None:
    cells = [("ar", "qa"), ("sd:gamma=10", "qa"), ("sd:gamma=5", "qa"), ("mjsd", "qa"), ("ar", "own"), ("ar", "rag")]
    records = [decoded(label, 1, [(1, 1, 2)], decode_s=1, suite=suite) for label, suite in cells]
    random.Random(0).shuffle(records)
    table = summary_table(records)
    assert list(dict.fromkeys(table["label"])) == ["ar", "sd:gamma=5", "sd:gamma=10", "mjsd"]
    assert list(table[table["label"] == "ar"]["suite"]) == ["qa", "rag", "own", "overall"]


def test_what_is_not_measured_is_null_with_its_reason() -> None:
    sd = row(summary_table(paper_run()), "sd")
    for column in ("percent_of_bound", "speedup_predicted", "energy_j_per_token", "draft_s", "mismatches"):
        assert pd.isna(sd[column])
        assert f"{column}: " in sd["notes"]


def test_without_ar_there_is_no_speedup_and_the_rest_stands() -> None:
    sd = row(summary_table([r for r in paper_run() if r.label == "sd"]), "sd")
    assert pd.isna(sd["speedup"])
    assert pd.isna(sd["speedup_low"])
    assert "speedup: no decode rate to compare" in sd["notes"]
    assert (sd["mat"], sd["pairs"], sd["unpaired"]) == (2.4, 0, 2)


def test_lost_cells_are_counted_and_leave_the_speedup() -> None:
    lost = [
        make_record("ar", 3, status="failed"), decoded("sd", 3, [(5, 5, 6)], decode_s=0.001),
        ar(4, 5, decode_s=1), make_record("sd", 4, status="skipped"),
        ar(5, 9, decode_s=16, prompt_truncated=True),
    ]  # fmt: skip
    table = summary_table([*paper_run(), *lost])
    sd, alone = row(table, "sd"), row(table, "ar")
    assert sd["speedup"] == pytest.approx(5)
    assert (sd["pairs"], sd["unpaired"], sd["failed"], sd["skipped"], sd["questions"]) == (2, 2, 0, 1, 3)
    assert (alone["failed"], alone["truncated"]) == (1, 1)


def test_a_retried_cell_counts_once_as_it_ended() -> None:
    first = make_record("sd", 1, status="failed", error="killed")
    table = summary_table([first, *paper_run()])
    pd.testing.assert_frame_equal(table, summary_table(paper_run()))


def test_overall_pools_suites_and_quality_is_a_mean_of_the_scored() -> None:
    records = [
        decoded("sd", 1, [(3, 3, 4)], decode_s=1, suite="qa", quality={"f1": 0.5, "exact": 1.0}),
        decoded("sd", 1, [(3, 0, 1)] * 3, decode_s=1, suite="rag", quality={"f1": None}),
        decoded("sd", 2, [(3, 0, 1)], decode_s=1, suite="rag", quality={"f1": 0.1}),
    ]
    table = summary_table(records)
    assert row(table, "sd")["mat"] == pytest.approx(8 / 5)
    assert row(table, "sd")["questions"] == 3
    assert row(table, "sd")["quality_f1"] == pytest.approx(0.3)
    assert row(table, "sd", "rag")["quality_f1"] == pytest.approx(0.1)
    assert pd.isna(row(table, "sd", "rag")["quality_exact"])


def test_verdicts_and_times_are_summed() -> None:
    def audited(question: int, verdict: str) -> Record:
        times = {"draft_s": 0.5, "verify_s": 1.0, "other_s": 0.25}
        return decoded("sd", question, [(1, 1, 2)], decode_s=2, divergence={"verdict": verdict}, **times)

    sd = row(summary_table([audited(1, "identical"), audited(2, "near_tie"), audited(3, "near_tie")]), "sd")
    assert (sd["mismatches"], sd["near_ties"]) == (0, 2)
    assert (sd["draft_s"], sd["verify_s"], sd["other_s"]) == (1.5, 3.0, 0.75)


def test_targets_are_never_mixed() -> None:
    other = [r.model_copy(update={"target": "u", "decode_s": (r.decode_s or 0) * 100}) for r in paper_run()]
    table = summary_table([*paper_run(), *other])
    assert row(table, "sd", target="t")["tokens_per_s"] == pytest.approx(3)
    assert row(table, "sd", target="u")["tokens_per_s"] == pytest.approx(0.03)
    assert row(table, "sd", target="u")["speedup"] == pytest.approx(5)


def two_targets(copies: int = 1) -> list[Record]:
    """The paper run on t, and on u with a draft that is five times as slow: speed-ups 5 and 1."""
    slow = [r.model_copy(update={"target": "u"}) for r in paper_run(copies)]
    slow = [r.model_copy(update={"decode_s": (r.decode_s or 0) * 5}) if r.label == "sd" else r for r in slow]
    return [*paper_run(copies), *slow]


def test_several_targets_bring_rows_of_their_mean_at_the_end() -> None:
    table = summary_table(two_targets(3))
    assert list(dict.fromkeys(table["target"])) == ["t", "u", MEAN_TARGET]
    mean = row(table, "sd", target=MEAN_TARGET)
    assert mean["speedup"] == pytest.approx((5 + 1) / 2)
    speed = ends_of_three_copies(3, (5.6 + 1.12) / 2, (4.4 + 0.88) / 2, (4, 16))
    assert (mean["speedup_low"], mean["speedup_high"], mean["speedup_n"]) == pytest.approx((*speed, 6))
    lengths = ends_of_three_copies(2.4, 8 / 3, 28 / 13, (3, 2))
    assert (mean["mat"], mean["mat_low"], mean["mat_high"]) == pytest.approx((2.4, *lengths))
    assert (mean["records"], mean["questions"], mean["pairs"], mean["launches"]) == (12, 6, 12, 1)
    assert row(table, "ar", "qa", MEAN_TARGET)["speedup"] == 1
    assert MEAN_TARGET not in set(summary_table(paper_run())["target"])


def test_the_mean_of_accepted_lengths_weighs_targets_alike_however_many_steps_they_took() -> None:
    """u takes 50 steps of 3 a question: the mean of both targets' MAT, not that of their steps pooled."""
    long = {"emitted_per_step": [3] * 50, "target_passes": 50}
    slow = [r.model_copy(update={"target": "u"} | (long if r.label == "sd" else {})) for r in paper_run(3)]
    mean = row(summary_table([*paper_run(3), *slow]), "sd", target=MEAN_TARGET)
    assert mean["mat"] == mean["tokens_per_pass"] == pytest.approx((2.4 + 3) / 2)
    shares = ((3 / 15 + 1 / 6) / 2, (2 / 15 + 1 / 6) / 2)
    ends = ends_of_three_copies(2.7, (8 / 3 + 3) / 2, (28 / 13 + 3) / 2, shares)
    assert (mean["mat_low"], mean["mat_high"]) == pytest.approx(ends)


def test_the_mean_has_no_figure_that_a_target_lacks_nor_rates_of_single_targets() -> None:
    table = summary_table([r for r in two_targets(3) if (r.target, r.label) != ("u", "sd")])
    mean = row(table, "sd", target=MEAN_TARGET)
    for column in ("speedup", "mat", "tokens_per_s", "perplexity"):
        assert pd.isna(mean[column])
        assert f"{column}: " in mean["notes"]
    assert pd.isna(mean["speedup_low"]) and pd.isna(mean["mat_high"])


def test_the_mean_over_targets_names_the_drafts_of_all() -> None:
    drafts = {"a": "x", "b": "y", "c": "x"}
    steps = [decoded("sd", 1, [(5, 1, 2)], decode_s=2, target=target, draft=draft) for target, draft in drafts.items()]
    overall = summary_table(steps).query("suite == 'overall'")
    assert dict(zip(overall["target"], overall["draft"], strict=True)) == {**drafts, MEAN_TARGET: "x, y"}


def test_numbers_in_labels_go_by_value_decimals_too() -> None:
    labels = ["s2d:thresholds=0.9+0.85+0", "s2d:thresholds=0.75+0.7+0"]
    table = summary_table([decoded(label, 1, [(1, 1, 2)], decode_s=1) for label in labels])
    assert list(dict.fromkeys(table["label"])) == labels[::-1]


def test_no_records_give_an_empty_table_with_all_columns() -> None:
    assert list(summary_table([]).columns) == [*(name for column in COLUMNS for name in column.names), "notes"]
    assert acceptance_by_position([]).empty and exit_depths([]).empty
    assert threshold_ablation([], summary_table([])).empty
