"""Tables by position, exit and threshold; sweeps over one option and decoders of equal draft length."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from specbench_s2d.analysis.tables.series import (
    ABLATION_COLUMNS,
    EXIT_COLUMNS,
    GAMMA_COLUMNS,
    POSITION_COLUMNS,
    SWEEP_COLUMNS,
    acceptance_by_position,
    equal_gamma,
    exit_depths,
    sweep,
    threshold_ablation,
)
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, summary_table
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, make_record, paper_run
from tests.analysis.report.grid import grid_run
from tests.analysis.report.joint import joint_run, with_intervals

RUN = joint_run(1, targets=("demo-s", "demo-m"))
TABLE = with_intervals(summary_table(RUN))


def drafted(label: str, levels: list[int], **options: Any) -> Record:
    steps = [(level, 1, 2) for level in levels]
    return decoded(label, 1, steps, decode_s=1, decoder_options=options, levels_per_step=levels)


def swept(records: list[Record], option: str) -> pd.DataFrame:
    return sweep(records, summary_table(records), option)


def test_a_sweep_holds_the_decoders_that_differ_in_the_option_alone_defaults_included() -> None:
    rows = sweep(RUN, TABLE, "tau")
    assert list(dict.fromkeys(rows["label"])) == [
        "mjsd:tau=0.1",
        "mjsd:tau=0.3",
        "mjsd",
        "mjsd:tau=0.7",
        "mjsd:tau=0.9",
    ]
    assert list(dict.fromkeys(rows["value"])) == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert set(rows["variant"]) == {"mjsd"}, "mjsd:candidates=4 and s2d+joint were run at one tau only"
    assert set(rows["gamma"]) == {4.0} and set(rows["beams"]) == {8.0}


def test_a_sweep_has_every_target_and_suite_with_the_table_s_figures() -> None:
    rows = sweep(RUN, TABLE, "k")
    assert set(rows["target"]) == {"demo-s", "demo-m", MEAN_TARGET}
    assert set(rows["suite"]) == set(TABLE["suite"])
    one = rows[(rows["target"] == "demo-s") & (rows["suite"] == OVERALL) & (rows["value"] == 2)]
    same = TABLE[(TABLE["target"] == "demo-s") & (TABLE["suite"] == OVERALL) & (TABLE["label"] == "mjgd:k=2")]
    for column in ("speedup", "mat", "mat_low", "perplexity", "perplexity_high"):
        assert one[column].item() == same[column].item(), column
    assert one["gamma"].isna().item()
    assert {"quality_rouge_1", "quality_rouge_2", "quality_rouge_l"} <= set(rows.columns)


def test_values_are_in_rising_order_as_numbers() -> None:
    run = [drafted(f"sd:gamma={g}" if g != 5 else "sd", [g], gamma=g) for g in (10, 5, 2)]
    assert list(swept(run, "gamma")[lambda t: t["suite"] == OVERALL]["value"]) == [2, 5, 10]


def test_several_variants_stand_side_by_side() -> None:
    run = [
        drafted(f"mjsd:candidates={c},tau={tau}", [4], gamma=4, candidates=c, tau=tau)
        for tau in (0.9, 0.1) for c in (2, 4)
    ]  # fmt: skip
    rows = swept(run, "tau")[lambda t: t["suite"] == OVERALL]
    assert list(rows["variant"]) == ["mjsd:candidates=2", "mjsd:candidates=4"] * 2
    assert list(rows["value"]) == [0.1, 0.1, 0.9, 0.9]


def test_an_option_that_is_no_number_is_no_value() -> None:
    run = [drafted("sd", [5], gamma=5), drafted("sd:gamma=heuristic", [5], gamma="heuristic")]
    assert swept(run, "gamma").empty
    run = [drafted(f"x:deep={deep}", [5], deep=deep) for deep in (True, False)]
    assert swept(run, "deep").empty


def test_equal_gamma_groups_the_decoders_that_share_a_constant_length() -> None:
    rows = equal_gamma(RUN, TABLE)
    overall = rows[(rows["suite"] == OVERALL) & (rows["target"] == "demo-s")]
    by_gamma = {gamma: set(part["label"]) for gamma, part in overall.groupby("gamma")}
    assert by_gamma[5] == {"sd", "s2d", "sd+joint", "s2d+joint"}
    assert {"sd:gamma=4", "s2d:gamma=4", "beam+token", "mjsd", "mjsd:tau=0.1", "mjsd:candidates=4"} <= by_gamma[4]
    assert set(by_gamma) == {4, 5}
    assert list(overall["gamma"]) == sorted(overall["gamma"])


def test_a_decoder_that_stops_earlier_or_runs_a_schedule_has_no_constant_length() -> None:
    run = [
        drafted("sd", [5, 5], gamma=5),
        drafted("early", [5, 2, 5], gamma=5),
        drafted("short", [3, 3], gamma=5),
        drafted("scheduled", [5, 7], gamma="heuristic"),
        make_record("failed", status="failed", decoder_options={"gamma": 5}),
    ]
    assert equal_gamma(run, summary_table(run)).empty


def test_less_room_at_the_end_of_the_context_changes_no_length() -> None:
    run = [drafted("sd", [5, 5, 3, 1], gamma=5), drafted("s2d", [5, 5], gamma=5)]
    assert set(equal_gamma(run, summary_table(run))["label"]) == {"sd", "s2d"}


def test_empty_tables_keep_their_columns() -> None:
    alone = [ar(1, 5, decode_s=1)]
    for records in ([], alone):
        table = summary_table(records)
        assert sweep(records, table, "tau").empty and equal_gamma(records, table).empty
        assert list(sweep(records, table, "tau").columns) == list(SWEEP_COLUMNS)
        assert list(equal_gamma(records, table).columns) == list(GAMMA_COLUMNS)


def test_exits_are_told_of_decoders_that_choose_them() -> None:
    table = exit_depths(grid_run(1, targets=["demo-s"]))
    chosen = {"s2d", "s2d:thresholds=0.75+0.7+0", "s2d:thresholds=0.9+0.85+0", "s2d-tree", "s2d-auto"}
    assert list(table.columns) == list(EXIT_COLUMNS)
    assert set(table["label"]) == chosen
    assert list(table.groupby("label")["share"].sum()) == pytest.approx([1] * 5)


def test_thresholds_are_compared_where_nothing_else_differs() -> None:
    records = grid_run(1, targets=["demo-s", "demo-m"])
    table = summary_table(records)
    ablation = threshold_ablation(records, table)
    assert list(ablation.columns) == list(ABLATION_COLUMNS)
    assert list(dict.fromkeys(ablation["thresholds"])) == ["0.5+0.5+0", "0.75+0.7+0", "0.9+0.85+0"]
    assert set(ablation["variant"]) == {"s2d"}
    assert set(ablation["target"]) == {"demo-s", "demo-m", MEAN_TARGET}
    first = ablation[ablation["target"] == "demo-s"].iloc[0]
    own = table[(table["target"] == "demo-s") & (table["label"] == "s2d") & (table["suite"] == OVERALL)]
    assert first["speedup"] == own["speedup"].item()


def test_acceptance_by_position_is_a_table_of_its_own() -> None:
    table = acceptance_by_position(paper_run())
    qa = table[table["suite"] == "qa"]
    assert list(table.columns) == list(POSITION_COLUMNS)
    assert set(table["label"]) == {"sd"}
    assert list(qa["rate"]) == pytest.approx([3 / 5, 2 / 3, 1, 1 / 2, 1])
