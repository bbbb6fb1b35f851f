"""The decoders of one run compared: worked on paper from the run of `factory.paper_run`."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from specbench_s2d.analysis.compare.comparison import Comparison
from specbench_s2d.analysis.compare.decoders import compare_decoders
from specbench_s2d.analysis.tables.text import absent
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.measure.quality import pooled, score_answer
from specbench_s2d.runs.record import Record
from tests.analysis.factory import decoded, paper_run
from tests.refusals import refused

# With sd of the paper run (2 s and 2 s): 1 s for the 4 tokens of question 1, 8 s for the 8 of question 2.
OTHER = [decoded("x", 1, [(4, 3, 4)], decode_s=1), decoded("x", 2, [(8, 7, 8)], decode_s=8)]


def faster(records: list[Record], factor: float, label: str = "sd") -> list[Record]:
    return [r.model_copy(update={"decode_s": (r.decode_s or 0) / factor}) if r.label == label else r for r in records]


def on(target: str, records: list[Record]) -> list[Record]:
    return [r.model_copy(update={"target": target}) for r in records]


def line(comparison: Comparison, **where: str) -> dict[str, Any]:
    table = comparison.table
    for column, value in {"suite": "overall", **where}.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return {str(name): value for name, value in table.iloc[0].items()}


def test_every_decoder_relative_to_one_of_the_run() -> None:
    found = line(compare_decoders([*paper_run(), *OTHER], "x"), target="t", label="sd")
    assert found["relative_speed"] == pytest.approx((12 / 4) / (12 / 9))
    assert (found["relative_speed_low"], found["relative_speed_high"]) == (pytest.approx(1 / 2), pytest.approx(4))
    assert (found["speedup"], found["mat"], found["pairs"]) == (pytest.approx(5), pytest.approx(2.4), 2)


def test_relative_to_ar_it_is_the_speedup_and_ar_is_compared_too() -> None:
    run = [*paper_run(), *OTHER]
    assert line(compare_decoders(run, "ar"), target="t", label="sd")["relative_speed"] == pytest.approx(5)
    assert set(compare_decoders(run, "x").table["label"]) == {"ar", "sd"}


def test_the_mean_over_targets_is_the_mean_of_the_relative_speeds() -> None:
    run = [*paper_run(), *OTHER]
    both = [*run, *on("u", faster(run, 2))]
    found = line(compare_decoders(both, "x"), target="mean over targets", label="sd")
    assert found["relative_speed"] == pytest.approx((9 / 4 + 9 / 2) / 2)
    assert found["relative_speed_high"] == pytest.approx((4 + 8) / 2)
    titles = [b.title for b in compare_decoders(both, "x").shown]
    assert titles[::2] == ["t", "u", "mean over targets"]
    assert titles[1::2] == [f"{title}: accepted length, perplexity, answer length" for title in titles[::2]]


def test_accepted_length_perplexity_and_quality_are_compared_with_the_others() -> None:
    """sd and ar: 2.4 tokens a step to 1; exp(14/14) to exp(7/14); F1 up by a half."""
    run = [r.model_copy(update={"quality": {"f1": 0.75 if r.label == "sd" else 0.25}}) for r in paper_run()]
    comparison = compare_decoders([*run, *on("u", run)], "ar")
    found = line(comparison, target="t", label="sd")
    assert found["mat_ratio"] == pytest.approx(2.4)
    assert (found["mat_ratio_low"], found["mat_ratio_high"]) == (pytest.approx(4 / 3), pytest.approx(4))
    assert found["perplexity_ratio"] == pytest.approx(math.exp(0.5))
    assert found["quality_f1_difference"] == pytest.approx(0.5)
    mean = line(comparison, target="mean over targets", label="sd")
    assert mean["mat_ratio"] == pytest.approx(2.4)
    assert mean["perplexity_ratio"] == pytest.approx(math.exp(0.5))
    blocks = {b.title: b for b in comparison.shown}
    assert blocks["t: accepted length, perplexity, answer length"].rows == [
        ["sd", "2.40 [1.33–4.00]", "1.65 [1.22–1.95]", "1.00 [1.00–1.00]"]
    ]
    assert blocks["mean over targets: accepted length, perplexity, answer length"].rows[0][1:3] == [
        "2.40 [1.33–4.00]",
        "1.65 [1.22–1.95]",
    ]
    assert blocks["t: task quality, difference"].headings == ["Decoder", "F1"]
    assert blocks["t: task quality, difference"].rows == [["sd", "0.50\n0.50 to 0.50"]]


def test_a_lower_perplexity_is_a_ratio_below_1_on_the_cells_where_both_are_known() -> None:
    """nll of sd: 1 and 2 on 5 and 9 tokens; AR's 3 and 4. Question 2 of AR unknown: question 1 alone, no interval."""
    better = [r.model_copy(update={"nll_sum": {1: 1, 2: 2}[int(r.question_id)]}) if r.label == "sd" else r
              for r in paper_run()]  # fmt: skip
    found = line(compare_decoders(better, "ar"), target="t", label="sd")
    assert found["perplexity_ratio"] == pytest.approx(math.exp(3 / 14 - 7 / 14))
    assert found["perplexity_ratio_high"] == pytest.approx(math.exp((2 - 4) / 9))
    half = [r.model_copy(update={"nll_sum": None}) if (r.label, r.question_id) == ("ar", 2) else r for r in better]
    comparison = compare_decoders(half, "ar")
    found = line(comparison, target="t", label="sd")
    assert found["perplexity_ratio"] == pytest.approx(math.exp((1 - 3) / 5))
    assert absent(found["perplexity_ratio_low"])
    assert comparison.shown[1].rows == [["sd", "2.40 [1.33–4.00]", "0.67", "1.00 [1.00–1.00]"]]


def test_every_metric_has_its_difference_and_no_figure_breaks_at_a_hundred_columns() -> None:
    means = {"rouge_1": 0.3, "rouge_2": 0.2, "rouge_l": 0.3, "exact_match": 0.0, "f1": 0.4, "final_number": 1.0}
    run = []
    for i, answer in enumerate(("it rains in the north again", "it runs", "a dog sat there"), start=1):
        for label, text in (("ar", "it rains in the north"), ("mjsd:candidates=4,tau=0.1", answer)):
            scored = score_answer(["chrf", "bleu"], text, ["it rains again in the north"])
            values = {name: value if label == "ar" else value - 0.5 + i / 10 for name, value in means.items()}
            quality = {"quality": {**scored.values, **values}, "quality_counts": scored.counts}
            run.append(decoded(label, i, [(4, 3, 4)], decode_s=i, nll_sum=i, **quality))
    comparison = compare_decoders(run, "ar")
    found = line(comparison, target="t", label="mjsd:candidates=4,tau=0.1")
    ours, theirs = [r for r in run if r.label != "ar"], [r for r in run if r.label == "ar"]
    for metric in ("chrf", "bleu"):
        apart = [pooled(metric, [(r.quality_counts or {})[metric] for r in side]) for side in (ours, theirs)]
        assert found[f"quality_{metric}_difference"] == pytest.approx(apart[0] - apart[1])
    quality = [b for b in comparison.shown if b.title == "t: task quality, difference"]
    assert [b.headings[1:] for b in quality] == [["chrF", "BLEU", "R-1", "R-2", "R-L"], ["EM", "F1", "acc"]]
    assert quality[1].rows[0][2] == "-0.30\n-0.40 to -0.20"
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(comparison.terminal())
    text = console.export_text()
    assert all(
        half in text for b in comparison.shown for row in b.rows for cell in row[1:] for half in cell.split("\n")
    )


def test_a_difference_of_nought_has_no_sign() -> None:
    run = [r.model_copy(update={"quality": {"f1": 0.25 - 0.001 * (r.label == "sd")}}) for r in paper_run()]
    blocks = {b.title: b for b in compare_decoders(run, "ar").shown}
    assert blocks["t: task quality, difference"].rows == [["sd", "0.00\n0.00 to 0.00"]]


def test_what_cannot_be_compared_is_one_line() -> None:
    alone = [r for r in paper_run() if r.label == "sd"]
    with refused(UnknownNameError, "unknown decoder 'sdd'", "'sd'", "Known: ar, sd"):
        compare_decoders(paper_run(), "sdd")
    with refused(UserError, "no other decoder"):
        compare_decoders(alone, "sd")


def test_a_missing_figure_says_why() -> None:
    run = [r.model_copy(update={"nll_sum": None}) for r in paper_run()]
    found = line(compare_decoders(run, "ar"), target="t", label="sd")
    assert math.isnan(float(found["perplexity_ratio"] or math.nan))
    assert found["notes"] == "perplexity_ratio: no cell that both have"
    one = [r for r in paper_run() if r.question_id == 1]
    assert (
        "relative_speed: no interval from 1 question"
        in line(compare_decoders(one, "ar"), target="t", label="sd")["notes"]
    )
