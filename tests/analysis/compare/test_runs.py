"""Two runs compared: worked on paper from the run of `factory.paper_run`."""

from __future__ import annotations

import pytest

from specbench_s2d.analysis.compare.runs import compare_runs
from specbench_s2d.errors import UserError
from tests.analysis.compare.test_decoders import OTHER, faster, line, on
from tests.analysis.factory import ar, decoded, paper_run
from tests.refusals import refused


def test_two_runs_have_the_ratio_of_their_speedups_whatever_the_machine() -> None:
    """B's machine is three times as slow for all; A's sd is twice as fast compared with its AR."""
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
    with refused(UserError, "b: no finished 'ar' in this run"):
        compare_runs(paper_run(), alone, ("a", "b"))
    with refused(UserError, "nothing in common: a has t with ar, sd; b has u with ar, sd"):
        compare_runs(paper_run(), on("u", paper_run()), ("a", "b"))
