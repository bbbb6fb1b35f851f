"""Energy per token from records' shares, worked by hand."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from specbench_s2d.analysis.metrics.energy import energy_j_per_token, energy_net_j_per_token, tokens_per_joule
from specbench_s2d.analysis.metrics.values import Measure
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


def test_an_energy_of_zero_is_a_figure_and_no_token_is_not() -> None:
    assert energy_j_per_token([metered(per_token=(0.0, 0.0))]) == Measure(0.0)
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
    assert tokens_per_joule(records) == Measure(40 / 170)
    lost = metered(question=2).model_copy(update={"energy_j": None, "reasons": {"energy_j": "no meter here"}})
    assert tokens_per_joule([lost]) == Measure(None, "1 of 1 cells carry no energy_j or new_tokens (no meter here)")
    assert tokens_per_joule([metered(per_token=(0.0, 0.0))]) == Measure(None, "the meter counted no joule")
    table = summary_table([metered("t", (2.0, 1.5)), metered("u", (4.0, 2.5))])
    overall = table[table["suite"] == OVERALL].set_index("target")
    assert dict(overall["tokens_per_joule"]) == {"t": 0.5, "u": 0.25, MEAN_TARGET: 0.375}
