"""What a reader is told before the values: failures, and why values are missing."""

from __future__ import annotations

import pandas as pd

from specbench_s2d.analysis.tables import remarks
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.runs.record import Record
from tests.analysis.factory import decoded, make_record, paper_run

TABLE = summary_table(paper_run())


def test_failures_and_mismatches_are_called_out() -> None:
    wrong = decoded("sd", 3, [(1, 1, 2)], decode_s=1, divergence={"verdict": "mismatch"})
    failed = make_record("sd", 4, status="failed")
    assert remarks.alarms(summary_table([*paper_run(), wrong, failed])) == [
        "t, sd: 1 of 4 turns failed.",
        "t, sd: 1 outputs differ from ar's.",
    ]
    assert remarks.alarms(TABLE) == []


def test_each_reason_for_missing_values_stands_once_with_its_rows() -> None:
    lines = remarks.missing_values(TABLE)
    assert "draft_s: 2 of 2 cells carry no draft_s (every row)" in lines
    assert "acceptance_rate: nothing was drafted (2 of 4 rows)" in lines
    assert len(lines) == len(set(lines))


def timed_run() -> list[Record]:
    """The paper run with its parts: AR's passes take all of its time; sd's 4 s are 1 of drafting and 3 of passes."""
    run = [r.model_copy(update={"draft_s": 0.0, "verify_s": r.decode_s, "other_s": 0.0}) for r in paper_run()]
    parts = {"draft_s": 0.5, "verify_s": 1.5}
    return [r.model_copy(update=parts if r.label == "sd" else {}) for r in run]


SENTENCE = "2.40 tokens a step promise 2.40 ×; drafting (4.2 passes) costs 0.12 AR steps"


def test_each_decoder_has_a_sentence_on_why_it_is_slower_or_faster() -> None:
    """12 tokens in 5 Steps; of 21 draft passes, 1 s in all; an AR step takes 20 s / 12."""
    both = [r.model_copy(update={"target": target}) for target in ("t", "u") for r in timed_run()]
    table = summary_table(both)
    found = remarks.whys(table)
    assert list(found) == ["t", "u"] and len(found["t"]) == 1
    assert found["u"][0].startswith(f"sd on u: {SENTENCE}") and found["u"][0].endswith("goes to drafting.")
    assert set(table.loc[table["label"] == "sd", "suite"][table["why"].notna()]) == {"qa", "overall"}
    several = pd.concat([table.assign(run="a"), table.assign(run="b")], ignore_index=True)
    assert remarks.whys(several)["b: t"][0].startswith(f"sd on t of b: {SENTENCE}")
    assert remarks.whys(TABLE) == {}


def test_it_is_said_how_many_launches_intervals_stand_on() -> None:
    alone = " within this launch: another run of the same command may differ by more (--launches)"
    assert remarks.within_launches([1, 1]) == alone
    assert remarks.within_launches([]) == remarks.within_launches([0]) == alone
    assert remarks.within_launches([3, 3]) == " and 3 launches"
    assert remarks.within_launches(pd.Series([3, 2, 5], dtype="Int64")) == " and 2 to 5 launches"
    assert remarks.within_launches([0, 3]) == " and 3 launches", "a row of failures has none"


def test_a_label_stands_for_its_drafts_and_options() -> None:
    run = [r.model_copy(update={"draft": "d", "decoder_options": {"gamma": 5}}) for r in paper_run() if r.label == "sd"]
    assert remarks.decoder_facts(summary_table([*run, *(r for r in paper_run() if r.label == "ar")])) == {
        "ar": "no options",
        "sd": "draft d; gamma=5",
    }


def test_failed_turns_are_told_with_the_first_reason_and_how_many_others_there_are() -> None:
    said = "draft d: logits are not finite numbers, first at position"
    errors = {"sd": [f"{said} 3 of the output", f"{said} 5 of the output", f"{said} 3 of the output"], "s2d": [None]}
    records = [
        make_record(label, question, status="failed", error=error)
        for label, of_label in errors.items()
        for question, error in enumerate(of_label)
    ]
    assert remarks.failures([make_record("ar"), *records]) == [
        f"t, sd: failed: {said} 3 of the output (and for 1 other reasons: see report.html)",
        "t, s2d: failed: no reason was recorded",
    ]
    assert remarks.failures([make_record("ar")]) == []


def test_it_is_said_what_token_recycling_was_kept_for() -> None:
    labels = ("ar", "recycling", "recycling:scope=run", "first(lookup|recycling)")
    lines = remarks.cautions(summary_table([make_record(label) for label in labels]))
    assert "first(lookup|recycling), recycling: each question starts with an empty matrix." in lines
    kept = "recycling:scope=run: the matrix is kept over the run, so later questions draft from earlier ones."
    assert kept in lines
    assert not [line for line in remarks.cautions(summary_table([make_record()])) if "matrix" in line]
