"""Cells that cannot be compared are counted and named; what is missing passes nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from specbench_s2d.analysis.gate.judge import judge
from specbench_s2d.analysis.gate.verdict import Tolerances
from specbench_s2d.measure.divergence import Divergence
from specbench_s2d.runs.record import Record
from tests.analysis.gate.runs import LABELS, baseline, changed, found, judged, only, unchanged

CHAT = next(r for r in baseline()[1] if r.turn == 1)
"""A second turn of the demo run."""


def of_chat(record: Record, turn: int) -> bool:
    return (record.suite, record.question_id, record.turn) == (CHAT.suite, CHAT.question_id, turn)


def repeated(times: int) -> tuple[list[Record], dict[str, Any]]:
    """The baseline with each cell `times` times, and its manifest."""
    _, records, manifest = baseline()
    facts = copy.deepcopy(manifest)
    facts["identity"]["repeats"] = times
    return [r.model_copy(update={"repeat": n}) for n in range(times) for r in records], facts


def test_other_prompts_of_the_same_questions_cannot_be_compared() -> None:
    """Another template: nothing is the baseline's any more, and nothing that is left to judge may pass."""
    judgement = judged(changed(lambda r: {"prompt_hash": "another"}))
    assert judgement.exit_code == 3
    assert only(judgement, "incomparable") == [("prompts", label) for label in dict.fromkeys(found_labels())]
    once = judged(changed(lambda r: {"prompt_hash": "another"} if of_chat(r, 1) else {}, "sd"))
    assert (once.exit_code, only(once, "incomparable")) == (3, [("prompts", "sd")])
    assert "turn 1 repeat 0" in found(once, "prompts", "sd").why


def found_labels() -> list[str]:
    return [r.label for r in baseline()[1]]


def test_a_later_turn_that_follows_another_answer_is_counted_and_not_compared() -> None:
    """The first answer parts at a near-tie; the second turn then has another prompt and any answer."""

    def parted(record: Record) -> dict[str, Any]:
        if of_chat(record, 0):
            ids = record.output_ids or []
            return {"output_ids": [ids[0] + 1, *ids[1:]], "tie_positions": [0]}
        return {"prompt_hash": "another", "output_ids": [1, 2]} if of_chat(record, 1) else {}

    judgement = judged(changed(parted, "sd"))
    assert judgement.exit_code == 0
    check = found(judgement, "prompts", "sd")
    assert (check.verdict, check.ours) == ("holds", "2 of 28 differ")
    assert found(judgement, "output ids", "sd").why == "2 of 26 differ: 2 at near-ties"


def test_another_questions_parted_answer_excuses_no_prompt() -> None:
    def elsewhere(record: Record) -> dict[str, Any]:
        if record.turn == 0 and record.question_id != CHAT.question_id:
            return {"output_ids": [(record.output_ids or [0])[0] + 1, 5], "tie_positions": [0]}
        return {"prompt_hash": "another"} if of_chat(record, 1) else {}

    assert only(judged(changed(elsewhere, "sd")), "incomparable") == [("prompts", "sd")]


def test_where_turns_replay_ars_answers_only_ars_answers_excuse_other_prompts() -> None:
    def parted(record: Record) -> dict[str, Any]:
        tied = {"output_ids": [(record.output_ids or [0])[0] + 1], "tie_positions": [0]}
        return tied if of_chat(record, 0) else {"prompt_hash": "another"} if of_chat(record, 1) else {}

    manifest = copy.deepcopy(baseline()[2])
    manifest["identity"]["settings"]["replay_turns"] = "ar"
    for label, excused in (("", True), ("sd", False)):  # AR's own answer parted, or only the decoder's
        _, records, _ = changed(parted, label)
        judgement = judge(("run", records, manifest), ("baseline", baseline()[1], manifest), Tolerances(), "skip")
        assert (("prompts", "sd") not in only(judgement, "incomparable")) == excused


def test_ids_that_the_run_lost_leave_it_incomplete_and_ids_that_neither_has_are_not_judged() -> None:
    lost = judged(changed(lambda r: {"output_ids": None}, "sd"))
    assert (lost.exit_code, only(lost, "incomplete")) == (3, [("output ids", "sd")])
    bare = [r.model_copy(update={"output_ids": None}) for r in baseline()[1]]
    judgement = judge(("run", bare, baseline()[2]), ("baseline", bare, baseline()[2]), Tolerances(), "skip")
    assert {label for rule, label in only(judgement, "not judged") if rule == "output ids"} == set(LABELS)


def test_a_wrong_id_is_found_among_cells_without_ids() -> None:
    order = [r.key for r in baseline()[1] if r.label == "sd"]
    wrong = changed(lambda r: {"output_ids": [1] if r.key == order[0] else None}, "sd")
    assert only(judged(wrong), "regressed") == [("output ids", "sd")]


def test_a_lossy_decoder_may_part_at_a_near_tie_too() -> None:
    def parted(record: Record) -> dict[str, Any]:
        return {"output_ids": [(record.output_ids or [0])[0] + 1, 5], "tie_positions": [0]}

    tied = judged(changed(lambda r: parted(r) if of_chat(r, 0) else {}, "mjsd"))
    assert found(tied, "output ids", "mjsd").verdict == "holds"


def test_a_regression_says_at_which_token() -> None:
    moved = changed(lambda r: {"output_ids": [*(r.output_ids or [])[:3], 2**31 - 1]} if of_chat(r, 0) else {}, "sd")
    assert found(judged(moved), "output ids", "sd").why.startswith("first at token 3: ")


def test_a_row_of_which_nothing_can_be_compared_is_incomplete() -> None:
    fields = ("output_ids", "emitted_per_step", "accepted_per_step", "target_passes", "nll_sum", "quality",
              "decode_s", "draft_s")  # fmt: skip
    _, records, manifest = changed(lambda r: dict.fromkeys(fields), "sd")
    judgement = judge(("run", records, manifest), ("baseline", records, manifest), Tolerances(), "auto")
    assert (judgement.exit_code, only(judgement, "incomplete")) == (3, [("evidence", "sd")])


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_baseline_that_finished_nothing_holds_nothing_to_account(status: str) -> None:
    broken = [r.model_copy(update={"status": status}) for r in baseline()[1]]
    name, records, manifest = changed(unchanged)
    judgement = judge((name, records, manifest), ("baseline", broken, manifest), Tolerances(), "auto")
    assert judgement.exit_code == 3
    partly = [r.model_copy(update={"status": status}) if r.label == "sd" else r for r in records]
    judgement = judge((name, records, manifest), ("baseline", partly, manifest), Tolerances(), "auto")
    assert judgement.exit_code == 0 and ("cells", "sd") in only(judgement, "not judged")


def test_a_run_that_was_stopped_between_repeats_is_incomplete() -> None:
    (thrice, manifest), records = repeated(3), baseline()[1]
    base = ("baseline", thrice, manifest)
    judgement = judge(("run", records, manifest), base, Tolerances(), "skip")
    assert (judgement.exit_code, len(only(judgement, "incomplete"))) == (3, len(LABELS))
    assert judge(("run", records, baseline()[2]), base, Tolerances(), "skip").exit_code == 0  # it planned one


def test_a_mismatch_counts_in_repeats_that_the_baseline_has_not() -> None:
    records, manifest = repeated(2)
    wrong = Divergence(verdict="mismatch", position=0)
    records = [r.model_copy(update={"divergence": wrong}) if r.repeat and r.label == "sd" else r for r in records]
    assert only(judged(("run", records, manifest), "skip"), "regressed") == [("audit", "sd")]


def test_an_unaudited_row_says_why() -> None:
    why = found(judged(changed(unchanged)), "audit", "mjsd").why
    assert why == "a lossy method is not meant to equal AR"
