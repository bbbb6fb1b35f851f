"""The audit, and the turns that were lost: counts, places and reasons."""

from __future__ import annotations

from specbench_s2d.analysis.report.html import audit
from specbench_s2d.analysis.report.html.table import HtmlTable
from tests.analysis.factory import make_record
from tests.analysis.report.html.pages import records


def texts(table: HtmlTable) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_verdicts_are_counted_by_decoder_and_the_rest_has_a_reason() -> None:
    run = [r.model_copy(update={"reasons": {"divergence": "lossy"}}) if r.lossy else r for r in records()]
    assert texts(audit.audit_counts(run)) == [
        ["t", "ar", "2", "0", "0", "0", ""],
        ["t", "sd", "1", "0", "1", "0", ""],
        ["t", "s2d", "0", "1", "0", "1", "out of memory (1)"],
        ["t", "mjsd †", "0", "0", "0", "1", "lossy (1)"],
    ]


def test_every_output_that_leaves_ar_is_listed_with_what_was_measured_there() -> None:
    mismatch, near = texts(audit.audit_events(records()))
    assert mismatch == ["t", "sd", "QA", "1", "mismatch", "2", "1", "3", "–", "–", "2.50e-01", "–"]
    assert near[1:5] == ["s2d", "QA", "1", "near-tie"] and near[-2] == "3.00e-06"
    assert all(cell.reason for cell in audit.audit_events(records()).rows[0] if cell.text == "–")


def test_lost_turns_say_what_became_of_them_alike_ones_together() -> None:
    run = [
        *(make_record("sd", n, status="skipped", error="the prompt is too long") for n in (1, 2)),
        make_record("sd", 3, status="failed", error="out of memory"),
        make_record("sd", 4, prompt_truncated=True),
        make_record("sd", 5),
    ]
    assert texts(audit.lost_turns(run)) == [
        ["t", "sd", "QA", "skipped", "2", "the prompt is too long"],
        ["t", "sd", "QA", "failed", "1", "out of memory"],
        ["t", "sd", "QA", "truncated", "1", "the prompt was cut to fit the context"],
    ]
