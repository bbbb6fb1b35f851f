"""The table of columns: what each row gives, over one target and over several, and what it is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from specbench_s2d.analysis.metrics.acceptance import MAT
from specbench_s2d.analysis.metrics.columns import (
    COLUMNS,
    IN_NOTES,
    PAIRS,
    Column,
    columns_of,
    definitions,
    quality_column,
)
from specbench_s2d.analysis.metrics.pairs import Group
from specbench_s2d.analysis.metrics.values import Interval, Measure
from tests.analysis.factory import of, paper_run

RUN = paper_run()
SD = Group("t", "sd", "qa", of("sd", RUN), ["t"], of("ar", RUN))
BOTH = replace(SD, target="mean", targets=["t", "u"])


def named(name: str) -> Column:
    [column] = [column for column in COLUMNS if column.name == name]
    return column


def test_every_column_stands_once_in_the_table_and_once_in_the_order_of_notes() -> None:
    names = [column.name for column in COLUMNS]
    assert len(names) == len(set(names))
    assert sorted(names) == sorted(column.name for column in IN_NOTES)


def test_a_function_gets_what_its_column_takes_of_the_group() -> None:
    assert named("label").value(SD) == "sd"
    assert named("mat").value(SD) == Measure(2.4)
    assert (named("pairs").value(SD), named("unpaired").value(SD)) == (2, 0)
    assert named("speedup").value(SD).value == pytest.approx(5)
    assert named("speedup_e2e").value(SD).value == pytest.approx(23 / 7)


def test_over_several_targets_a_column_is_their_mean_of_all_together_or_none() -> None:
    group = replace(BOTH, parts=[{"mat": 2.0}, {"mat": 4.0}])
    assert named("mat").value(group) == Measure(3.0)
    assert named("new_tokens").value(group) == Measure(14)
    assert named("perplexity").value(group) == Measure(None, "a figure of single targets")
    lacking = replace(group, parts=[{"mat": 2.0}, {"mat": None}])
    assert named("mat").value(lacking) == Measure(None, "no mean: 1 of 2 targets have none")


def test_an_interval_is_the_statistic_s_of_the_records_or_of_the_pairs() -> None:
    assert named("mat").interval(SD, 200, 0) == MAT.interval([SD.records], 200)
    speed = named("speedup").interval(SD, 10_000, 0)
    assert (speed.low, speed.high) == (pytest.approx(2), pytest.approx(8))
    assert named("tokens_per_s").interval(SD, 200, 0) == Interval(None, None)


def test_a_value_of_single_targets_pairs_has_no_interval_over_several() -> None:
    assert named("speedup_e2e").of is PAIRS
    assert named("speedup_e2e").interval(replace(BOTH, parts=[{}, {}]), 200, 0) == Interval(None, None)


def test_columns_of_a_table_come_in_the_order_of_the_csv_quality_last() -> None:
    given = ["quality_f1", "quality_f1_low", "quality_f1_high", "mat", "mat_low", "speedup", "own"]
    assert [column.name for column in columns_of(given)] == ["speedup", "mat", "quality_f1"]


def test_a_metric_has_its_own_heading_digits_and_definition() -> None:
    assert (quality_column("bleu").heading, quality_column("bleu").digits) == ("BLEU", ".1f")
    assert (quality_column("f1").heading, quality_column("f1").digits) == ("F1", ".2f")
    assert quality_column("own").heading == "own" and "suite's metric" in quality_column("own").definitions[0]


def test_definitions_are_the_functions_own_in_one_line() -> None:
    found = definitions()
    assert found["mat"].startswith("Mean accepted tokens: emitted tokens per Step, the bonus token included")
    assert found["mat"].endswith("Unit: tokens/step")
    assert "paired bootstrap" in found["speedup_low"] and "paired" not in found["mat_high"]
    assert all(text and "\n" not in text and not text.endswith(".") for text in found.values())
    assert {name for column in COLUMNS for name in column.names} <= set(found)


def test_what_is_shown_can_be_formatted() -> None:
    for column in COLUMNS:
        if column.heading:
            assert f"{1:{column.digits}}", column.name
