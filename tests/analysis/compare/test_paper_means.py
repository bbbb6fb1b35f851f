"""A run and values that a paper gives as means over its targets: MJSD over AR and over SD."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pandas as pd
import pytest

from specbench_s2d.analysis.compare.comparison import Comparison
from specbench_s2d.analysis.compare.decoders import compare_decoders
from specbench_s2d.analysis.compare.papers import COLUMNS, compare_published
from specbench_s2d.analysis.metrics.pairs import pair
from specbench_s2d.analysis.metrics.quality import PERPLEXITY
from specbench_s2d.analysis.tables.summary import MEAN_TARGET
from specbench_s2d.errors import UserError
from specbench_s2d.runs.record import Record
from tests.analysis.expected import ends
from tests.analysis.factory import ar, decoded, of
from tests.refusals import refused

TARGETS = {"a": 2.0, "b": 3.0}


@cache
def run(sd_gamma: int = 4, targets: tuple[str, ...] = tuple(TARGETS)) -> list[Record]:
    """Five questions on each target: AR, SD, and MJSD at two values of tau, each faster and less perplexed,
    most so on the last question."""
    sd = "sd" if sd_gamma == 5 else f"sd:gamma={sd_gamma}"
    lanes: tuple[tuple[str, float, float, dict[str, Any]], ...] = (
        (sd, 1.5, 0.0, {"gamma": sd_gamma, "exit": None, "draft": None}),
        ("mjsd", 2.0, 1.0, {"gamma": 4, "beams": 8, "candidates": 1, "exit": None, "tau": 0.5, "draft": None}),
        ("mjsd:tau=0.1", 2.5, 0.5, {"gamma": 4, "beams": 8, "candidates": 1, "exit": None, "tau": 0.1, "draft": None}),
        ("mjsd:candidates=4", 2.2, 1.0, {"gamma": 4, "beams": 8, "candidates": 4, "exit": None, "tau": 0.5}),
    )
    records = []
    for target in targets:
        for question in range(5):
            seconds, where = TARGETS[target] * (question + 1), {"target": target}
            records.append(ar(question, 9, decode_s=seconds, nll_sum=9.0 + question, **where))
            for label, faster, lower, options in lanes:
                nll = 9.0 + question - lower * (0.8 + 0.1 * question)
                records.append(
                    decoded(
                        label, question, [(4, 3, 4), (4, 4, 4)], decode_s=seconds / faster, nll_sum=nll, draft="d",
                        decoder_options=options, lossy=label.startswith("mjsd"),
                        reasons={"energy_j": "no meter here"}, **where,
                    )
                )  # fmt: skip
    return records


def compared(paper: str, records: list[Record]) -> Comparison:
    stand_ins = [f"{target}={MEAN_TARGET}" for target in dict.fromkeys(r.target for r in records)]
    return compare_published(records, "r", paper, 0.0, stand_ins)


def figure(table: pd.DataFrame, **where: str) -> dict[str, Any]:
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return {str(name): value for name, value in table.iloc[0].items()}


def test_mjsd_over_ar_is_its_speed_up() -> None:
    table = compared("mjsd", run()).table
    assert list(table.columns) == list(COLUMNS)
    found = figure(table, label="mjsd:tau=0.1", method="MJSD vs greedy autoregressive", metric="speedup")
    assert (found["target"], found["against"], found["published"]) == (MEAN_TARGET, "ar", 2.21)
    assert found["ours"] == pytest.approx(2.5)
    assert found["ours_low"] == pytest.approx(2.5) and found["ours_high"] == pytest.approx(2.5)
    assert found["ours_n"] == 5
    assert compared("mjsd", run()).shown[0].rows[-1][2] == "2.50 [2.50–2.50, n = 5]"


def test_mjsd_over_sd_is_what_compare_against_sd_says() -> None:
    found = figure(compared("mjsd", run()).table, label="mjsd", method="MJSD vs vanilla SD", metric="speedup")
    assert (found["against"], found["published"]) == ("sd:gamma=4", 1.49)
    assert found["ours"] == pytest.approx(2.0 / 1.5)
    other = compare_decoders(run(), "sd:gamma=4").table
    row = figure(other, target=MEAN_TARGET, label="mjsd", suite="overall")
    assert (found["ours"], found["ours_low"]) == (row["relative_speed"], row["relative_speed_low"])


def test_perplexity_stands_in_percent_below_ars() -> None:
    found = figure(compared("mtad", run()).table, label="mjsd", metric="perplexity_reduction_percent")
    groups = [pair(of("mjsd", part), of("ar", part)) for part in ([r for r in run() if r.target == t] for t in TARGETS)]
    reduction, _ = PERPLEXITY.compare(groups, "reduction_percent")
    assert found["ours"] == reduction.value == pytest.approx(100 * (1 - math.exp(-5 / 45)))
    left = [100 * (1 - math.exp(-(5 - (0.8 + 0.1 * question)) / 36)) for question in range(5)]
    expected = ends(100 * (1 - math.exp(-5 / 45)), left, [9] * 5, "linear")
    assert (found["ours_low"], found["ours_high"]) == pytest.approx(expected)
    assert (found["published"], found["against"]) == (21.2, "ar")


def test_energy_is_missing_with_the_records_reason() -> None:
    found = figure(compared("mjsd", run()).table, label="mjsd", method="MJSD vs vanilla SD", metric="energy_ratio")
    assert pd.isna(found["ours"]) and found["reason"] == "no meter here" and found["published"] == 1.62
    assert any(
        "1.62 (energy per token, times less); no ours: no meter here." in note for note in compared("mjsd", run()).notes
    )


def test_metered_energy_stands_as_times_less_a_token_and_without_an_interval() -> None:
    """SD takes 2 J a token on every target, MJSD 1.25: 1.6 times less. Blocks are metered, not questions."""
    joules = {"ar": 4.0, "sd:gamma=4": 2.0, "mjsd": 1.25}
    metered = [r.model_copy(update={"energy_j": joules.get(r.label, 3.0) * (r.new_tokens or 0)}) for r in run()]
    found = figure(compared("mjsd", metered).table, label="mjsd", method="MJSD vs vanilla SD", metric="energy_ratio")
    assert found["ours"] == pytest.approx(1.6) and pd.isna(found["ours_low"]) and pd.isna(found["reason"])
    assert pd.isna(found["ours_n"])
    assert "1.60" in [row[2] for table in compared("mjsd", metered).shown for row in table.rows]


def test_it_is_said_which_decoder_stands_there_and_over_what() -> None:
    comparison = compared("mjsd", run())
    assert set(comparison.table["label"]) == {"mjsd", "mjsd:tau=0.1"}
    titles = [table.title for table in comparison.shown]
    assert titles[0].startswith("MJSD vs greedy autoregressive, speed") and len(titles) == 2
    assert comparison.shown[1].rows[0][:2] == ["mjsd †", "sd:gamma=4"]
    notes = " ".join(comparison.notes)
    assert "mjsd (τ = 0.5, γ = 4, beams = 8); mjsd:tau=0.1 (τ = 0.1, γ = 4, beams = 8)" in notes
    assert (
        "Without a row in published:mjsd: mjsd:candidates=4 (MJSD vs greedy autoregressive is mjsd:candidates=1; MJSD "
        "vs vanilla SD is mjsd:candidates=1); sd:gamma=4 (the paper has no such method)."
    ) in notes
    assert "is set over" not in notes


def test_another_gamma_and_no_sd_at_all_are_said() -> None:
    other = compared("mjsd", run(sd_gamma=5))
    assert "mjsd (γ = 4) is set over sd (γ = 5)" in " ".join(other.notes)
    assert "set over sd (draft" not in " ".join(other.notes)
    elsewhere = [r.model_copy(update={"draft": "e"}) if r.decoder == "sd" else r for r in run()]
    assert "mjsd (draft d) is set over sd:gamma=4 (draft e)" in " ".join(compared("mjsd", elsewhere).notes)
    without = compared("mjsd", [r for r in run() if r.decoder != "sd"])
    found = figure(without.table, label="mjsd", method="MJSD vs vanilla SD", metric="speedup")
    assert pd.isna(found["ours"]) and "no plain sd" in found["reason"]


def test_a_run_of_one_target_stands_there_alone() -> None:
    table = compared("mjsd", run(targets=("b",))).table
    assert set(table["target"]) == {"b"} and set(table["paper_target"]) == {MEAN_TARGET}


def test_only_the_paper_s_own_targets_are_in_our_mean_unless_others_are_named() -> None:
    """Of opt-13b and a model that is none of the paper's, the first alone: its speed-up is 2.5, the other's 1.25."""
    slower = [r.model_copy(update={"target": "demo-s", "decode_s": r.decode_s * (2 if r.label != "ar" else 1)})
              for r in run(targets=("a",)) if r.decode_s]  # fmt: skip
    ours = [r.model_copy(update={"target": "facebook/opt-13b"}) for r in run(targets=("a",))]
    comparison = compare_published([*ours, *slower], "r", "mjsd", 0.0)
    where = {"label": "mjsd:tau=0.1", "method": "MJSD vs greedy autoregressive", "metric": "speedup"}
    found = figure(comparison.table, **where)
    assert (found["target"], found["ours"]) == ("facebook/opt-13b", pytest.approx(2.5))
    notes = " ".join(comparison.notes)
    assert "the run lacks llama-2 13B base" in notes and "No counterpart: demo-s is no model of published:mjsd" in notes
    both = compare_published([*ours, *slower], "r", "mjsd", 0.0, [f"demo-s={MEAN_TARGET}"])
    assert figure(both.table, **where)["ours"] == pytest.approx((2.5 + 1.25) / 2)


def test_a_target_that_lacks_the_decoder_leaves_no_mean() -> None:
    part = [r for r in run() if not (r.target == "a" and r.decoder == "mjsd")]
    found = figure(compared("mjsd", part).table, label="mjsd", method="MJSD vs vanilla SD", metric="speedup")
    assert pd.isna(found["ours"]) and "1 of 2 targets" in found["reason"]


def test_a_run_without_mjsd_has_nothing_in_common() -> None:
    with refused(UserError, "nothing in common: r has sd:gamma=4", "MTAD vs vanilla SD"):
        compared("mtad", [r for r in run() if r.decoder != "mjsd"])
