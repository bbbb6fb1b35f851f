"""Two runs side by side, and the decoders of one run: worked on paper from the run of `factory.paper_run`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from specbench_s2d.analysis.compare import Comparison, compare_decoders, compare_runs
from specbench_s2d.bench.records import Record
from specbench_s2d.errors import UnknownNameError, UserError
from tests.analysis.factory import ar, decoded, paper_run
from tests.refusals import refused

# Beside sd of the paper run (2 s and 2 s): 1 s for the 4 tokens of question 1, 8 s for the 8 of question 2.
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
    titles = [b.title for b in compare_decoders(both, "x").blocks]
    assert titles[::2] == ["t", "u", "mean over targets"]
    assert titles[1::2] == [f"{title}: accepted length and text" for title in titles[::2]]


def test_accepted_length_perplexity_and_quality_stand_beside_the_others() -> None:
    """sd beside ar: 2.4 tokens a step to 1; exp(14/14) to exp(7/14); F1 up by a half."""
    run = [r.model_copy(update={"quality": {"f1": 0.75 if r.label == "sd" else 0.25}}) for r in paper_run()]
    comparison = compare_decoders([*run, *on("u", run)], "ar")
    found = line(comparison, target="t", label="sd")
    assert found["mat_ratio"] == pytest.approx(2.4)
    assert (found["mat_ratio_low"], found["mat_ratio_high"]) == (pytest.approx(4 / 3), pytest.approx(4))
    assert found["perplexity_ratio"] == pytest.approx(math.exp(0.5))
    assert found["quality_f1_difference"] == pytest.approx(0.5)
    mean = line(comparison, target="mean over targets", label="sd")
    assert mean["mat_ratio"] == pytest.approx(2.4)
    assert math.isnan(mean["perplexity_ratio"])
    block = next(b for b in comparison.blocks if b.title == "t: accepted length and text")
    assert block.headings == ["Decoder", "MAT ×", "PPL ×", "F1 −"]
    assert block.rows == [["sd", "2.40\n1.33–4.00", "1.65\n1.22–1.95", "0.50\n0.50–0.50"]]


def test_two_runs_have_the_ratio_of_their_speedups_whatever_the_machine() -> None:
    """B's machine is three times as slow for all; A's sd is twice as fast beside its AR."""
    slow = [r.model_copy(update={"decode_s": (r.decode_s or 0) * 3}) for r in paper_run()]
    comparison = compare_runs(faster(paper_run(), 2), slow, ("a", "b"))
    found = line(comparison, target="t", label="sd")
    assert (found["speedup_a"], found["speedup_b"]) == (pytest.approx(10), pytest.approx(5))
    assert (found["ratio"], found["ratio_low"], found["ratio_high"]) == pytest.approx((2, 2, 2))
    assert (found["questions"], found["mat_a"], found["mat_b"]) == (2, pytest.approx(2.4), pytest.approx(2.4))
    assert set(comparison.table["suite"]) == {"qa", "overall"}


def test_the_ratio_takes_only_turns_that_both_runs_asked_and_names_the_rest() -> None:
    more = [ar(3, 9, decode_s=1), decoded("sd", 3, [(8, 7, 8)], decode_s=8)]
    comparison = compare_runs([*paper_run(), *more], paper_run(), ("a", "b"))
    found = line(comparison, target="t", label="sd")
    assert (found["ratio"], found["questions"]) == (pytest.approx(1), 2)
    assert found["speedup_a"] != pytest.approx(5)
    assert "Only a has the turns qa 3/1." in comparison.notes


def test_targets_and_decoders_without_a_partner_are_named() -> None:
    ours = [*paper_run(), *OTHER, *on("u", paper_run())]
    notes = compare_runs(ours, [*paper_run(), *on("v", paper_run())], ("a", "b")).notes
    assert "Only a has the decoders x." in notes
    assert "Only a has the targets u." in notes and "Only b has the targets v." in notes


def test_two_runs_of_several_targets_compare_their_means_too() -> None:
    both = [*paper_run(), *on("u", paper_run())]
    found = line(compare_runs(faster(both, 4), both, ("a", "b")), target="mean over targets", label="sd")
    assert (found["ratio"], found["ratio_low"]) == pytest.approx((4, 4))


def test_what_cannot_be_compared_is_one_line() -> None:
    alone = [r for r in paper_run() if r.label == "sd"]
    with refused(UnknownNameError, "unknown decoder 'sdd'", "'sd'", "Known: ar, sd"):
        compare_decoders(paper_run(), "sdd")
    with refused(UserError, "no other decoder"):
        compare_decoders(alone, "sd")
    with refused(UserError, "b: no finished 'ar' in this run"):
        compare_runs(paper_run(), alone, ("a", "b"))
    with refused(UserError, "nothing in common: a has t with ar, sd; b has u with ar, sd"):
        compare_runs(paper_run(), on("u", paper_run()), ("a", "b"))
