"""Energy per token from records' shares, worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from specbench_s2d.analysis.metrics.energy import (
    IN_DOUBT,
    disagreement,
    energy_j_per_token,
    energy_net_j_per_token,
    tokens_per_joule,
)
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.analysis.tables import remarks
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, summary_table
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, make_record

GROSS, NET = "energy_j_per_token", "energy_net_j_per_token"


def metered(
    target: str = "t", per_token: tuple[float, float] = (2.0, 1.5), tokens: int = 10, question: int = 1
) -> Record:
    gross, net = per_token
    shares = {"energy_j": gross * tokens, "energy_net_j": net * tokens}
    return ar(question, tokens, decode_s=1, target=target, **shares)


def test_a_row_weighs_its_blocks_by_the_tokens_timed() -> None:
    records = [metered(per_token=(2.0, 1.5), tokens=10), metered(per_token=(5.0, 3.0), tokens=30, question=2)]
    assert energy_j_per_token(records) == Measure((2 * 10 + 5 * 30) / 40)
    assert energy_net_j_per_token(records) == Measure((1.5 * 10 + 3 * 30) / 40)


def test_failed_cells_have_no_part_in_it() -> None:
    assert energy_j_per_token([metered(), make_record("ar", 2, status="failed")]) == Measure(2.0)


@pytest.mark.parametrize(
    ("figure", "field"), [(energy_j_per_token, "energy_j"), (energy_net_j_per_token, "energy_net_j")]
)
def test_one_cell_without_energy_makes_the_row_null_with_its_reason(figure: Callable[..., Measure], field: str) -> None:
    lost = metered(question=2).model_copy(update={field: None, "reasons": {field: "the driver was lost"}})
    found = figure([metered(), lost])
    assert found.value is None
    assert found.note == f"1 of 2 cells carry no {field} or new_tokens (the driver was lost)"


@pytest.mark.parametrize("joules", [0.0, -3.0])
def test_joules_that_no_device_draws_make_the_row_null(joules: float) -> None:
    records = [metered(), metered(per_token=(joules, joules), question=2)]
    assert energy_j_per_token(records) == Measure(None, "1 of 2 cells carry no energy_j above 0")
    assert energy_net_j_per_token(records) == Measure(None, "1 of 2 cells carry no energy_net_j above 0")
    assert tokens_per_joule(records) == energy_j_per_token(records)


def test_no_token_has_no_energy() -> None:
    assert energy_j_per_token([metered().model_copy(update={"new_tokens": 0})]).value is None
    assert energy_j_per_token([]) == Measure(None, "no cell finished")


def test_the_table_has_both_columns_and_the_mean_over_targets() -> None:
    table = summary_table([metered("t", (2.0, 1.5)), metered("u", (4.0, 2.5), tokens=90)])
    overall = table[table["suite"] == OVERALL].set_index("target")
    assert dict(overall[GROSS]) == {"t": 2, "u": 4, MEAN_TARGET: 3}
    assert dict(overall[NET]) == {"t": 1.5, "u": 2.5, MEAN_TARGET: 2}


def test_without_a_meter_the_table_says_why() -> None:
    sd = decoded("sd", 1, [(5, 1, 2)], decode_s=2, reasons={"energy_j": "not metered: --energy off"})
    row = summary_table([ar(1, 3, decode_s=3), sd]).query("label == 'sd' and suite == 'overall'").iloc[0]
    assert pd.isna(row[GROSS]) and pd.isna(row[NET])
    assert "(not metered: --energy off)" in row["notes"]


def test_tokens_per_joule_pool_the_row_and_say_why_they_are_missing() -> None:
    """10 tokens of 20 J and 30 of 150 J; of two targets, the mean of their own."""
    records = [metered(per_token=(2.0, 1.5), tokens=10), metered(per_token=(5.0, 3.0), tokens=30, question=2)]
    assert tokens_per_joule(records) == Measure(pytest.approx(40 / 170))
    lost = metered(question=2).model_copy(update={"energy_j": None, "reasons": {"energy_j": "no meter here"}})
    assert tokens_per_joule([lost]) == Measure(None, "1 of 1 cells carry no energy_j or new_tokens (no meter here)")
    table = summary_table([metered("t", (2.0, 1.5)), metered("u", (4.0, 2.5))])
    overall = table[table["suite"] == OVERALL].set_index("target")
    assert dict(overall["tokens_per_joule"]) == {"t": 0.5, "u": 0.25, MEAN_TARGET: 0.375}


def window(seconds: float, question: int = 1, trace: float | None = None, **changes: Any) -> Record:
    """A timed window of 10 tokens at 100 W; its trace integrates to `trace` times its counter."""
    joules = 100 * seconds
    traced = None if trace is None else trace * joules
    given = {"energy_j": joules, "energy_net_j": 0.6 * joules, "energy_trace_j": traced, "energy_s": seconds}
    return ar(question, 10, decode_s=seconds, **{**given, **changes})


def test_windows_give_a_rows_energy_from_five_seconds_on() -> None:
    assert energy_j_per_token([window(3.0), window(2.0, 2)]) == Measure(500 / 20)
    assert energy_net_j_per_token([window(3.0), window(2.0, 2)]) == Measure(300 / 20)
    said = "its timed windows add up to 3.2 s; energy is given from 5 s on"
    for figure in (energy_j_per_token, energy_net_j_per_token, tokens_per_joule):
        assert figure([window(3.2)]) == Measure(None, said)


def test_windows_too_short_for_the_counter_are_left_out_where_they_are_few() -> None:
    def short(question: int, seconds: float = 0.1) -> Record:
        why = f"its window of {seconds:.2f} s is shorter than 0.2 s"
        return window(seconds, question, energy_j=None, energy_net_j=None, reasons={"energy_j": why})

    left_out = "1 of 2 windows left out, shorter than 0.2 s"
    assert energy_j_per_token([window(10.0), short(2)]) == Measure(1000 / 10, left_out)
    many = [window(5.0), *(short(2 + n) for n in range(3))]
    said = "3 of its 4 timed windows are shorter than 0.2 s; --energy-blocks meters them"
    assert energy_j_per_token(many) == Measure(None, said)
    broken = window(0.3, 3, energy_j=None, reasons={"energy_j": "GPU is lost"})
    found = energy_j_per_token([window(10.0), broken])
    assert found == Measure(None, "1 of 2 cells carry no energy_j or new_tokens (GPU is lost)")
    assert energy_j_per_token([short(1, 0.19)] * 30).value is None


@pytest.mark.parametrize(("trace", "doubted"), [(1.09, False), (0.91, False), (1.11, True), (0.5, True)])
def test_counter_and_trace_that_differ_by_more_than_a_tenth_are_said(trace: float, doubted: bool) -> None:
    records = [window(6.0, trace=trace)]
    assert disagreement(records).value == pytest.approx(trace - 1)
    assert energy_j_per_token(records) == Measure(60.0, IN_DOUBT if doubted else None)
    table = summary_table(records)
    assert (f"energy_j_per_token: {IN_DOUBT}" in (table["notes"].iloc[0] or "")) == doubted
    off = f"{100 * (trace - 1):+.0f} %"
    line = f"t: {IN_DOUBT} (ar on qa {off}, ar on overall {off}): J/token of these rows is in doubt."
    assert remarks.cautions(table)[-1:] == ([line] if doubted else [])


def test_what_nothing_checks_is_not_in_doubt() -> None:
    records = [window(6.0, reasons={"energy_trace_j": "no sensor"})]
    assert disagreement(records) == Measure(None, "1 of 1 cells carry no energy_trace_j (no sensor)")
    assert energy_j_per_token(records) == Measure(60.0)
    assert disagreement([window(6.0, energy_j=None, trace=1.0)]) == Measure(None)
