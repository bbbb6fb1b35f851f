"""The table of columns: what each row gives, over one target and over several, and what it is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
from tests.analysis.expected import ends_of_three_copies
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
    """Of three copies: the mean accepted tokens without a first question 8/3, without a second 28/13."""
    run = paper_run(3)
    group = replace(SD, records=of("sd", run), baseline=of("ar", run))
    mat, speed = named("mat").interval(group), named("speedup").interval(group)
    assert (mat.low, mat.high) == pytest.approx(ends_of_three_copies(2.4, 8 / 3, 28 / 13, (3, 2)))
    assert (speed.low, speed.high) == pytest.approx(ends_of_three_copies(5, 5.6, 4.4, (4, 16)))
    assert named("tokens_per_s").interval(group) == Interval(None, None)


def test_over_several_targets_an_interval_is_that_of_the_mean_whatever_the_value_takes() -> None:
    """The second target's draft is five times as slow: with the prefill, 23 s of AR beside 7 s and 3 + 20 s."""
    run = paper_run(3)
    slow = [r.model_copy(update={"target": "u"}) for r in run]
    slow = [r.model_copy(update={"total_s": (r.prefill_s or 0) + (r.decode_s or 0) * 5}) if r.label == "sd" else r
            for r in slow]  # fmt: skip
    group = replace(BOTH, records=of("sd", [*run, *slow]), baseline=of("ar", [*run, *slow]), parts=[{}, {}])
    found = named("speedup_e2e").interval(group)
    means = [(64 / 18 + 64 / 58) / 2, (51 / 17 + 51 / 57) / 2]
    assert named("speedup_e2e").of is PAIRS
    assert (found.low, found.high) == pytest.approx(ends_of_three_copies((23 / 7 + 69 / 69) / 2, *means, (5, 18)))


def test_columns_of_a_table_come_in_the_order_of_the_csv_quality_last() -> None:
    given = ["quality_f1", "quality_f1_low", "quality_f1_high", "quality_f1_n", "mat", "mat_low", "speedup", "own"]
    assert [column.name for column in columns_of(given)] == ["speedup", "mat", "quality_f1"]


def test_a_metric_has_its_own_heading_digits_and_definition() -> None:
    assert (quality_column("bleu").heading, quality_column("bleu").digits) == ("BLEU", ".1f")
    assert (quality_column("f1").heading, quality_column("f1").digits) == ("F1", ".2f")
    assert quality_column("own").heading == "own" and "suite's metric" in quality_column("own").definitions[0]


def test_definitions_are_the_functions_own_in_one_line() -> None:
    found = definitions()
    assert found["mat"].startswith("Mean accepted tokens: emitted tokens per Step, the bonus token included")
    assert found["mat"].endswith("Unit: tokens/step")
    assert found["mat_low"] == (
        "Lower end of the 95 % interval of `mat`: over questions and, where there are several, over launches"
    )
    assert "paired over questions" in found["speedup_high"]
    assert found["mat_n"] == "Questions that the interval of `mat` stands on"
    assert found["launches"].startswith("Launches (fresh processes")
    assert all(text and "\n" not in text and not text.endswith(".") for text in found.values())
    assert {name for column in COLUMNS for name in column.names} <= set(found)


def test_what_is_shown_can_be_formatted() -> None:
    for column in COLUMNS:
        if column.heading:
            assert f"{1:{column.digits}}", column.name
