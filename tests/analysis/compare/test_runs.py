"""Two runs compared: worked on paper from the run of `factory.paper_run`."""

from __future__ import annotations

import pandas as pd
import pytest

from specbench_s2d.analysis.compare.runs import compare_runs
from specbench_s2d.errors import UserError
from tests.analysis.compare.test_decoders import faster, line, on, other
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import ar, decoded, paper_run
from tests.refusals import refused


def test_two_runs_have_the_ratio_of_their_speedups_whatever_the_machine() -> None:
    """B's machine is three times as slow for all; A's sd is twice as fast compared with its AR."""
    slow = [r.model_copy(update={"decode_s": (r.decode_s or 0) * 3}) for r in paper_run(3)]
    comparison = compare_runs(faster(paper_run(3), 2), slow, ("a", "b"))
    found = line(comparison, target="t", label="sd")
    assert (found["speedup_a"], found["speedup_b"]) == (pytest.approx(10), pytest.approx(5))
    assert (found["ratio"], found["ratio_low"], found["ratio_high"]) == pytest.approx((2, 2, 2))
    assert (found["questions"], found["mat_a"], found["mat_b"]) == (6, pytest.approx(2.4), pytest.approx(2.4))
    assert set(comparison.table["suite"]) == {"qa", "overall"}


def test_a_question_is_left_out_of_both_runs_at_once() -> None:
    """A's sd is twice as fast on questions 1, 3 and 5: 60 s of AR over 9 s, beside 60 s over 12 s of B."""
    odd = [r.model_copy(update={"decode_s": 1.0}) if r.label == "sd" and int(r.question_id) % 2 else r
           for r in paper_run(3)]  # fmt: skip
    comparison = compare_runs(odd, paper_run(3), ("a", "b"))
    found = line(comparison, target="t", label="sd")
    low, high = ends_of_three_copies(12 / 9, 10 / 8, 10 / 7, (4, 16))
    assert (found["ratio"], found["ratio_low"], found["ratio_high"]) == pytest.approx((4 / 3, low, high))
    assert comparison.shown[0].rows[-1][4] == f"1.33 [{low:.2f}–{high:.2f}, n = 6]"
    few = compare_runs(paper_run(), paper_run(), ("a", "b"))
    assert few.shown[0].rows[-1][4] == "1.00 [n = 2]"


def test_it_is_said_how_many_launches_either_run_has() -> None:
    again = [r.model_copy(update={"launch": 1, "key": f"{r.key}/1"}) for r in paper_run(3)]
    notes = compare_runs([*paper_run(3), *again], paper_run(3), ("a", "b")).notes
    assert "95 % interval from n questions and 1 to 2 launches." in notes[0]
    assert "from n questions within this launch" in compare_runs(paper_run(), paper_run(), ("a", "b")).notes[0]


def test_the_ratio_takes_only_turns_that_both_runs_asked_and_names_the_rest() -> None:
    more = [ar(3, 9, decode_s=1), decoded("sd", 3, [(8, 7, 8)], decode_s=8)]
    comparison = compare_runs([*paper_run(), *more], paper_run(), ("a", "b"))
    found = line(comparison, target="t", label="sd")
    assert (found["ratio"], found["questions"]) == (pytest.approx(1), 2)
    assert found["speedup_a"] != pytest.approx(5)
    assert "Only a has the turns qa 3/1." in comparison.notes


def test_targets_and_decoders_without_a_partner_are_named() -> None:
    ours = [*paper_run(), *other(), *on("u", paper_run())]
    notes = compare_runs(ours, [*paper_run(), *on("v", paper_run())], ("a", "b")).notes
    assert "Only a has the decoders x." in notes
    assert "Only a has the targets u." in notes and "Only b has the targets v." in notes


def test_a_dash_names_why() -> None:
    """B's decode times are not known, as an imported run's are not."""
    reasons = {"decode_s": "not in these files"}
    imported = [r.model_copy(update={"decode_s": None, "reasons": reasons}) for r in paper_run()]
    why = "4 of 4 cells carry no decode_s (not in these files)"
    comparison = compare_runs(paper_run(), imported, ("a", "b"))
    found = line(comparison, target="t", label="sd")
    assert pd.isna(found["speedup_b"]) and found["reason"] == f"speedup_b: {why}; ratio: {why}"
    assert [note for note in comparison.notes if why in note] == [f"– under B, A / B [95 %]: {why} (sd)."]
    whole = compare_runs(paper_run(), paper_run(), ("a", "b"))
    assert whole.table["reason"].isna().all() and not any(note.startswith("–") for note in whole.notes)


def test_two_runs_of_several_targets_compare_their_means_too() -> None:
    both = [*paper_run(3), *on("u", paper_run(3))]
    found = line(compare_runs(faster(both, 4), both, ("a", "b")), target="mean over targets", label="sd")
    assert (found["ratio"], found["ratio_low"]) == pytest.approx((4, 4))


def test_what_cannot_be_compared_is_one_line() -> None:
    alone = [r for r in paper_run() if r.label == "sd"]
    with refused(UserError, "b: no finished 'ar' in this run"):
        compare_runs(paper_run(), alone, ("a", "b"))
    with refused(UserError, "nothing in common: a has t with ar, sd; b has u with ar, sd"):
        compare_runs(paper_run(), on("u", paper_run()), ("a", "b"))


def test_runs_that_asked_no_turn_in_common_say_so_where_the_ratio_is_missing() -> None:
    elsewhere = [r.model_copy(update={"question_id": f"{r.question_id}b"}) for r in paper_run()]
    comparison = compare_runs(paper_run(), elsewhere, ("a", "b"))
    assert "– under A / B [95 %]: no turn that both runs asked (sd)." in comparison.notes
