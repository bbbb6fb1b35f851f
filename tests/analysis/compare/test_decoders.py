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
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import decoded, paper_run
from tests.refusals import refused


def other(copies: int = 1) -> list[Record]:
    """With sd of the paper run (2 s and 2 s): 1 s for the 4 tokens of question 1, 8 s for the 8 of question 2."""
    return [
        decoded("x", 2 * i + kind, [(4 * kind, 4 * kind - 1, 4 * kind)], decode_s=(1, 8)[kind - 1])
        for i in range(copies)
        for kind in (1, 2)
    ]


def shown(value: float, ends: tuple[float, float]) -> str:
    """A value of six questions as tables print it."""
    return f"{value:.2f} [{ends[0]:.2f}–{ends[1]:.2f}, n = 6]"


MAT = ends_of_three_copies(2.4, 8 / 3, 28 / 13, (4, 8))
"""Ends of the ratio of sd's mean accepted tokens to AR's, which are 1; a question weighs by AR's steps."""


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
    found = line(compare_decoders([*paper_run(3), *other(3)], "x"), target="t", label="sd")
    assert found["relative_speed"] == pytest.approx((12 / 4) / (12 / 9))
    # x takes 27 s and sd 12 s; without a first question 26 and 10, without a second 19 and 10
    ends = ends_of_three_copies(27 / 12, 26 / 10, 19 / 10, (1, 8))
    assert (found["relative_speed_low"], found["relative_speed_high"]) == pytest.approx(ends)
    assert (found["speedup"], found["mat"], found["pairs"]) == (pytest.approx(5), pytest.approx(2.4), 6)
    assert (found["relative_speed_n"], found["launches"]) == (6, 1)


def test_two_questions_have_a_ratio_and_no_interval() -> None:
    comparison = compare_decoders([*paper_run(), *other()], "x")
    found = line(comparison, target="t", label="sd")
    assert found["relative_speed"] == pytest.approx(9 / 4) and found["relative_speed_n"] == 2
    assert absent(found["relative_speed_low"])
    assert "relative_speed: n = 2: no interval from fewer than 5 questions" in found["notes"]
    assert comparison.shown[0].rows[1][2] == "2.25 [n = 2]"


def test_it_is_said_how_many_launches_the_ratios_stand_on() -> None:
    again = [r.model_copy(update={"launch": 1, "key": f"{r.key}/1"}) for r in paper_run(3)]
    comparison = compare_decoders([*paper_run(3), *again], "ar")
    assert line(comparison, label="sd")["launches"] == 2
    assert "interval from n questions and 2 launches." in comparison.notes[0]
    assert "from n questions within this launch" in compare_decoders(paper_run(3), "ar").notes[0]


def test_relative_to_ar_it_is_the_speedup_and_ar_is_compared_too() -> None:
    run = [*paper_run(), *other()]
    assert line(compare_decoders(run, "ar"), target="t", label="sd")["relative_speed"] == pytest.approx(5)
    assert set(compare_decoders(run, "x").table["label"]) == {"ar", "sd"}


def test_the_mean_over_targets_is_the_mean_of_the_relative_speeds() -> None:
    run = [*paper_run(3), *other(3)]
    both = [*run, *on("u", faster(run, 2))]
    found = line(compare_decoders(both, "x"), target="mean over targets", label="sd")
    assert found["relative_speed"] == pytest.approx((9 / 4 + 9 / 2) / 2)
    ends = ends_of_three_copies(27 / 8, (2.6 + 5.2) / 2, (1.9 + 3.8) / 2, (1, 8))
    assert (found["relative_speed_low"], found["relative_speed_high"]) == pytest.approx(ends)
    titles = [b.title for b in compare_decoders(both, "x").shown]
    assert titles[::2] == ["t", "u", "mean over targets"]
    assert titles[1::2] == [f"{title}: accepted length, perplexity, answer length" for title in titles[::2]]


def test_accepted_length_perplexity_and_quality_are_compared_with_the_others() -> None:
    """sd and ar: 2.4 tokens a step to 1; exp(14/14) to exp(7/14); F1 up by a half."""
    run = [r.model_copy(update={"quality": {"f1": 0.75 if r.label == "sd" else 0.25}}) for r in paper_run(3)]
    comparison = compare_decoders([*run, *on("u", run)], "ar")
    found = line(comparison, target="t", label="sd")
    assert found["mat_ratio"] == pytest.approx(2.4)
    assert (found["mat_ratio_low"], found["mat_ratio_high"]) == pytest.approx(MAT)
    assert found["perplexity_ratio"] == pytest.approx(math.exp(0.5))
    assert found["quality_f1_difference"] == pytest.approx(0.5)
    mean = line(comparison, target="mean over targets", label="sd")
    assert mean["mat_ratio"] == pytest.approx(2.4)
    assert mean["perplexity_ratio"] == pytest.approx(math.exp(0.5))
    blocks = {b.title: b for b in comparison.shown}
    # Perplexities: e^(38/37) to e^(18/37) without a first question, e^(32/33) to e^(17/33) without a second.
    perplexity = ends_of_three_copies(math.exp(0.5), math.exp(20 / 37), math.exp(15 / 33), (5, 9))
    cells = [shown(2.4, MAT), shown(math.exp(0.5), perplexity)]
    assert blocks["t: accepted length, perplexity, answer length"].rows == [["sd", *cells, "1.00 [1.00–1.00, n = 6]"]]
    assert blocks["mean over targets: accepted length, perplexity, answer length"].rows[0][1:3] == cells
    assert blocks["t: task quality, difference"].headings == ["Decoder", "F1"]
    assert blocks["t: task quality, difference"].rows == [["sd", "0.50\nn = 6"]], "no spread, no interval"
    assert "quality_f1_difference: no interval: all 6 questions have the same value" in found["notes"]


def test_a_lower_perplexity_is_a_ratio_below_1_on_the_cells_where_both_are_known() -> None:
    """nll of sd: 1 and 2 on 5 and 9 tokens; AR's 3 and 4. Unknown to AR's second kind: three questions, no interval."""
    better = [r.model_copy(update={"nll_sum": 2 - int(r.question_id) % 2}) if r.label == "sd" else r
              for r in paper_run(3)]  # fmt: skip
    found = line(compare_decoders(better, "ar"), target="t", label="sd")
    assert found["perplexity_ratio"] == pytest.approx(math.exp(3 / 14 - 7 / 14))
    ends = ends_of_three_copies(math.exp(-4 / 14), math.exp((8 - 18) / 37), math.exp((7 - 17) / 33), (5, 9))
    assert (found["perplexity_ratio_low"], found["perplexity_ratio_high"]) == pytest.approx(ends)
    half = [r.model_copy(update={"nll_sum": None}) if r.label == "ar" and int(r.question_id) % 2 == 0 else r
            for r in better]  # fmt: skip
    comparison = compare_decoders(half, "ar")
    found = line(comparison, target="t", label="sd")
    assert found["perplexity_ratio"] == pytest.approx(math.exp((1 - 3) / 5))
    assert absent(found["perplexity_ratio_low"])
    assert comparison.shown[1].rows == [["sd", shown(2.4, MAT), "0.67 [n = 3]", "1.00 [1.00–1.00, n = 6]"]]


def test_every_metric_has_its_difference_and_no_figure_breaks_at_a_hundred_columns() -> None:
    means = {"rouge_1": 0.3, "rouge_2": 0.2, "rouge_l": 0.3, "exact_match": 0.0, "f1": 0.4, "final_number": 1.0}
    run = []
    answers = ("it rains in the north again", "it runs", "a dog sat there", "it rains", "again in the north")
    for i, answer in enumerate(answers, start=1):
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
    # -0.4 to 0 in steps of 0.1: their mean, and 2.776 times its standard error of 0.0707 on either side
    assert quality[1].rows[0][2] == "-0.20\n-0.40 to 0.00\nn = 5"
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(comparison.terminal())
    text = console.export_text()
    assert all(
        half in text for b in comparison.shown for row in b.rows for cell in row[1:] for half in cell.split("\n")
    )


def test_a_difference_of_nought_has_no_sign() -> None:
    run = [r.model_copy(update={"quality": {"f1": 0.25 - 0.0001 * int(r.question_id) * (r.label == "sd")}})
           for r in paper_run(3)]  # fmt: skip
    blocks = {b.title: b for b in compare_decoders(run, "ar").shown}
    assert blocks["t: task quality, difference"].rows == [["sd", "0.00\n0.00 to 0.00\nn = 6"]]


def test_a_decoder_that_nothing_scored_has_a_dash_beside_those_that_were() -> None:
    scored = [r.model_copy(update={"quality": {"f1": 0.25 * (r.label == "sd")}}) for r in paper_run()]
    comparison = compare_decoders([*scored, *other()], "ar")
    blocks = {b.title: b for b in comparison.shown}
    assert blocks["t: task quality, difference"].rows == [["sd", "0.25\nn = 2"], ["x", "–"]]
    assert str(comparison.table["quality_f1_difference_n"].dtype) == "Int64"


def test_what_cannot_be_compared_is_one_line() -> None:
    alone = [r for r in paper_run() if r.label == "sd"]
    with refused(UnknownNameError, "unknown decoder 'sdd'", "'sd'", "Known: ar, sd"):
        compare_decoders(paper_run(), "sdd")
    with refused(UserError, "no other decoder"):
        compare_decoders(alone, "sd")


def test_a_missing_figure_says_why() -> None:
    run = [r.model_copy(update={"nll_sum": None}) for r in paper_run(3)]
    found = line(compare_decoders(run, "ar"), target="t", label="sd")
    assert math.isnan(float(found["perplexity_ratio"] or math.nan))
    assert found["notes"] == "perplexity_ratio: no cell that both have"


def test_repetition_of_lossy_decoders_is_compared_on_the_same_questions() -> None:
    """Answers of 9 tokens: AR's all distinct, those of x once more the first token, on every question but one."""
    told = [r.model_copy(update={"output_ids": list(range(9))}) for r in paper_run(3)]
    once_more = [[*range(8), 0] if i else [0] * 9 for i in range(6)]
    lossy = [
        decoded("x", i + 1, [(8, 7, 8)], decode_s=1, output_ids=ids, lossy=True) for i, ids in enumerate(once_more)
    ]
    comparison = compare_decoders([*told, *lossy], "ar")
    found = line(comparison, label="x")
    changes = [1 / 9 - 1, *[8 / 9 - 1] * 5]
    mean = sum(changes) / 6
    spread = 2.571 * math.sqrt(sum((change - mean) ** 2 for change in changes) / 5 / 6)  # Student's t of 5 degrees
    ends = (found["distinct_1_difference_low"], found["distinct_1_difference_high"])
    assert found["distinct_1_difference"] == pytest.approx(mean)
    assert ends == pytest.approx((mean - spread, mean + spread), rel=1e-3)
    assert found["loop_share_difference"] == pytest.approx(1 / 6)
    assert absent(line(comparison, label="sd")["loop_share_difference"])  # lossless: nothing to compare
    assert [table.title for table in comparison.shown][-1] == "t: repetition, difference"
    assert not any("repetition" in table.title for table in compare_decoders(told, "ar").shown)


def test_a_comparison_with_ar_says_its_speedups_once_and_mentions_no_decoder_that_did_not_run() -> None:
    with_ar, with_x = (compare_decoders([*paper_run(3), *other(3)], against) for against in ("ar", "x"))
    assert with_ar.shown[0].headings == ["Decoder", "QA", "All [95 %]", "MAT"]
    assert with_x.shown[0].headings == ["Decoder", "QA", "All [95 %]", "× ar", "MAT"]
    notes = " ".join(with_ar.notes)
    assert "mjgd" not in notes and "Over several targets" not in notes
    assert "Over several targets" in " ".join(compare_decoders([*paper_run(), *on("u", paper_run())], "ar").notes)
    blocks = [r.model_copy(update={"target_passes": 2 * (r.target_passes or 0)}) if r.label == "sd" else r
              for r in paper_run()]  # fmt: skip
    assert "MAT of mjgd is its block" in " ".join(compare_decoders(blocks, "ar").notes)
