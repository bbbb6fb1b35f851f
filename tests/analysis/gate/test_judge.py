"""The gate on the demo grid: the unchanged run holds, and every planted regression is found by its own rule."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.analysis.gate.judge import Side, check_run, judge
from specbench_s2d.analysis.gate.verdict import Tolerances
from specbench_s2d.errors import RunFolderError
from specbench_s2d.measure.divergence import Divergence
from specbench_s2d.runs.record import Record
from tests.analysis.gate.runs import LABELS, TARGET, baseline, changed, found, judged, only, unchanged
from tests.documents import OLD_RUN
from tests.refusals import refused


def test_the_unchanged_run_holds() -> None:
    judgement = judged(changed(unchanged))
    assert judgement.exit_code == 0
    assert not only(judgement, "regressed", "improved", "incomplete", "incomparable")
    assert {check.label for check in judgement.of("holds") if check.rule == "output ids"} == set(LABELS)


def test_every_rule_is_judged_somewhere() -> None:
    rules = {rule for rule, _ in only(judged(changed(unchanged)), "holds")}
    expected = {"settings", "questions", "models", "decoders", "metrics", "cells", "audit", "output ids"}
    assert rules >= {*expected, "acceptance", "MAT", "perplexity", "speed-up", "cost ratio", "chrF", "EM"}


def wrong_token(record: Record) -> dict[str, Any]:
    """The third token of one answer is another; its likelihood is kept, for that has a rule of its own."""
    if record.question_id != baseline()[1][0].question_id or record.turn:
        return {}
    ids = list(record.output_ids or [])
    ids[2] += 1
    return {"output_ids": ids}


def test_one_wrong_token_of_a_lossless_decoder_is_a_regression_that_names_the_cell() -> None:
    judgement = judged(changed(wrong_token, "sd"))
    assert (judgement.exit_code, only(judgement, "regressed")) == (1, [("output ids", "sd")])
    check = found(judgement, "output ids", "sd")
    assert check.ours == "2 of 28 differ" and "turn 0 repeat 0" in check.why


def test_at_a_near_tie_an_output_may_part() -> None:
    tied = changed(lambda r: {**wrong_token(r), "tie_positions": [2]}, "sd")
    judgement = judged(tied)
    assert judgement.exit_code == 0
    assert found(judgement, "output ids", "sd").why == "2 of 28 differ: 2 at near-ties"
    elsewhere = changed(lambda r: {**wrong_token(r), "tie_positions": [1, 3]}, "sd")
    assert judged(elsewhere).exit_code == 1


def test_an_output_that_breaks_off_has_no_tie_to_excuse_it() -> None:
    short = changed(lambda r: {"output_ids": (r.output_ids or [])[:2], "tie_positions": [2]}, "sd")
    assert ("output ids", "sd") in only(judged(short), "regressed")


def test_a_lossy_decoder_may_move_in_a_stated_share_of_cells() -> None:
    one_of_14 = changed(wrong_token, "mjsd")
    assert only(judged(one_of_14), "regressed") == [("output ids", "mjsd")]
    judgement = judged(one_of_14, moved_cells=0.1)
    assert judgement.exit_code == 0 and "within the share allowed" in found(judgement, "output ids", "mjsd").why


def test_an_acceptance_bug_is_found_though_outputs_are_right() -> None:
    """One drafted token less is accepted in each step: the same ids in more steps."""

    def timid(record: Record) -> dict[str, Any]:
        accepted = [max(0, n - 1) for n in record.accepted_per_step or []]
        return {
            "accepted_per_step": accepted, "emitted_per_step": [n + 1 for n in accepted], "accepted": sum(accepted)
        }  # fmt: skip

    judgement = judged(changed(timid, "sd"))
    assert judgement.exit_code == 1
    assert {("acceptance", "sd"), ("MAT", "sd")} <= set(only(judgement, "regressed"))


def test_on_another_machine_acceptance_is_held_to_the_tolerance_of_mat() -> None:
    """A draft's own near-tie may fall otherwise there: one step of all is nothing, a tenth of MAT is."""
    other = {"environment": {**baseline()[2]["environment"], "cpu": {"model": "another", "threads": 2}}}
    once = [True]

    def one_step(record: Record) -> dict[str, Any]:
        if not once.pop() if once else True:
            return {}
        return {"emitted_per_step": [*(record.emitted_per_step or []), 1]}

    judgement = judged(changed(one_step, "sd", other))
    assert judgement.exit_code == 0
    assert ("acceptance", "sd") in only(judgement, "not judged")
    worse = changed(lambda r: {"emitted_per_step": [*(r.emitted_per_step or []), *[0] * 4]}, "sd", other)
    assert only(judged(worse), "regressed") == [("MAT", "sd")]


def test_a_decoder_that_decides_by_measured_times_may_step_otherwise() -> None:
    stepped = changed(lambda r: {"emitted_per_step": [1] * (r.new_tokens or 0)}, "s2d-auto")
    judgement = judged(stepped)
    assert judgement.exit_code == 0 and ("acceptance", "s2d-auto") in only(judgement, "not judged")
    assert judged(changed(wrong_token, "s2d-auto")).exit_code == 1


def slower(factor: float) -> Any:
    """Every draft pass takes `factor` times as long."""

    def change(record: Record) -> dict[str, Any]:
        assert record.draft_s is not None and record.decode_s is not None
        more = (factor - 1) * record.draft_s
        return {"draft_s": record.draft_s + more, "decode_s": record.decode_s + more}

    return change


def test_a_draft_that_is_30_percent_slower_is_flagged_through_the_cost_ratio() -> None:
    judgement = judged(changed(slower(1.3), "sd"))
    assert judgement.exit_code == 1 and ("cost ratio", "sd") in only(judgement, "regressed")
    assert (
        "1.300 of the baseline's; above 1.15 it regressed (2 and 2 launches" in found(judgement, "cost ratio", "sd").why
    )


@pytest.mark.parametrize("factor", [0.95, 1.14])
def test_within_the_margin_a_draft_may_drift(factor: float) -> None:
    assert judged(changed(slower(factor), "sd")).exit_code == 0


def test_a_slower_loop_is_flagged_through_the_speedup_and_a_faster_one_named() -> None:
    slow = judged(changed(lambda r: {"decode_s": (r.decode_s or 0) * 1.2}, "mjgd"))
    assert (slow.exit_code, only(slow, "regressed")) == (1, [("speed-up", "mjgd")])
    fast = judged(changed(lambda r: {"decode_s": (r.decode_s or 0) * 0.8}, "mjgd"))
    assert (fast.exit_code, only(fast, "improved")) == (0, [("speed-up", "mjgd")])
    allowed = judged(changed(lambda r: {"decode_s": (r.decode_s or 0) * 1.2}, "mjgd"), speed=0.2)
    assert allowed.exit_code == 0


def test_a_change_that_launches_contradict_is_no_regression() -> None:
    """One launch of this run twice as slow, the other twice as fast: launches differ by more than the change."""

    def mixed(record: Record) -> dict[str, Any]:
        return {"decode_s": (record.decode_s or 0) * (2.4 if record.launch else 0.6)}

    assert ("speed-up", "mjgd") not in only(judged(changed(mixed, "mjgd")), "regressed", "improved")


def test_at_another_pace_of_the_machine_speed_is_not_judged() -> None:
    """All of a target's decoders slower alike: its speed-ups are the same, and would say nothing if they were not."""

    def paced(scale: float) -> Side:
        return changed(lambda r: {"decode_s": (r.decode_s or 0) * scale, "draft_s": (r.draft_s or 0) * scale})

    slow = judged(paced(1.3))
    assert slow.exit_code == 0 and {check.verdict for check in slow.speedups} == {"not judged"}
    assert "ar on demo-s decodes at 0.77 of the baseline's rate" in slow.sentence
    assert {check.verdict for check in judged(paced(1.1)).speedups} == {"holds"}
    assert {check.verdict for check in judged(paced(1.3), "judge").speedups} == {"holds"}


def test_one_launch_on_each_side_says_nothing_of_speed() -> None:
    (_, ours, facts), (_, theirs, _) = changed(unchanged), baseline()
    facts["spec"]["launches"] = 1
    run, base = (("r", [r for r in records if not r.launch], facts) for records in (ours, theirs))
    judgement = judge(run, base, Tolerances(), "auto")
    assert judgement.exit_code == 0
    assert "one launch of this run and one of the baseline" in found(judgement, "speed-up", "sd").why
    assert "Speed was not judged: one launch" in judgement.sentence
    assert (
        found(judge(run, baseline(), Tolerances(), "auto"), "speed-up", "sd").verdict == "holds"
    )  # 1 and 2 are enough


def test_every_verdict_on_speed_says_what_it_would_have_found() -> None:
    judgement = judged(changed(unchanged))
    assert all((check.detectable or 0) > 0.1 for check in judgement.speedups)
    [line] = judgement.detectable
    assert line.startswith(f"{TARGET}, the smallest slow-down that 80 of 100 such checks would find: ")
    assert {part.split()[0] for part in line.partition(": ")[2].split(", ")} == set(LABELS) - {"ar"}


def test_a_launch_that_is_missing_leaves_the_run_incomplete() -> None:
    judgement = judged(changed(lambda r: None if r.launch else {}))
    assert judgement.exit_code == 3
    assert found(judgement, "cells", "sd").ours == "14 of 28 missing or skipped"
    assert "launch 1" in found(judgement, "cells", "sd").why


def test_a_wrong_output_in_any_launch_is_a_regression() -> None:
    judgement = judged(changed(lambda r: wrong_token(r) if r.launch else {}, "sd"))
    assert (judgement.exit_code, found(judgement, "output ids", "sd").ours) == (1, "1 of 28 differ")


def test_another_machines_times_are_not_judged_unless_asked_for() -> None:
    facts = baseline()[2]["environment"]
    other = {"environment": {**facts, "cpu": {**facts["cpu"], "model": "another"}}}
    slow = changed(lambda r: {"decode_s": (r.decode_s or 0) * 2}, "sd", other)
    judgement = judged(slow)
    assert judgement.exit_code == 0
    assert found(judgement, "speed-up", "sd").why == "other processor (another; the baseline had AMD EPYC)"
    assert judged(slow, "judge").exit_code == 1
    same = changed(lambda r: {"decode_s": (r.decode_s or 0) * 2}, "sd")
    assert judged(same, "skip").exit_code == 0 and judged(same).exit_code == 1


def test_without_times_speed_is_not_judged_and_never_passes_in_silence() -> None:
    untimed = changed(lambda r: {"decode_s": None, "draft_s": None})
    judgement = judged(untimed)
    assert {label for rule, label in only(judgement, "not judged") if rule == "speed-up"} == set(LABELS) - {"ar"}


def test_without_ids_outputs_are_not_judged() -> None:
    imported = {"output_ids": None, "drafted_per_step": None, "accepted_per_step": None}
    run = changed(lambda r: imported)
    judgement = judge(run, run, Tolerances(), "skip")
    assert not [check for check in judgement.of("holds") if check.rule in ("output ids", "acceptance")]
    assert ("MAT", "sd") in only(judgement, "holds")


def test_a_perplexity_that_moved_for_equal_ids_is_a_regression_either_way() -> None:
    for factor in (1.001, 0.999):
        judgement = judged(changed(lambda r, f=factor: {"nll_sum": (r.nll_sum or 0) * f}, "ar"))
        assert only(judgement, "regressed") == [("perplexity", "ar")]
    assert judged(changed(lambda r: {"nll_sum": (r.nll_sum or 0) * 1.001}, "ar"), perplexity=0.01).exit_code == 0


def test_quality_of_equal_answers_must_be_equal() -> None:
    better = changed(lambda r: {"quality": dict.fromkeys(r.quality, 1.0) if r.quality else None}, "ar")
    assert ("EM", "ar") in only(judged(better), "regressed")


def test_a_mismatch_of_the_runs_own_audit_is_a_regression() -> None:
    wrong = changed(lambda r: {"divergence": Divergence(verdict="mismatch", position=1)}, "sd")
    assert only(judged(wrong), "regressed") == [("audit", "sd")]
    tied = judged(changed(lambda r: {"divergence": Divergence(verdict="near_tie", position=1)}, "sd"))
    assert tied.exit_code == 0 and found(tied, "audit", "sd").ours == "28 audited, 28 near-ties"


def test_a_failed_cell_is_a_regression_and_a_gap_is_incomplete() -> None:
    first = baseline()[1][0].question_id
    failed = judged(changed(lambda r: {"status": "failed"} if r.question_id == first else {}, "sd"))
    assert failed.exit_code == 1 and ("cells", "sd") in only(failed, "regressed")
    gone = judged(changed(lambda r: None if r.question_id == first else {}, "sd"))
    assert (gone.exit_code, only(gone, "incomplete")) == (3, [("cells", "sd")])
    skipped = judged(changed(lambda r: {"status": "skipped"} if r.question_id == first else {}, "sd"))
    assert (skipped.exit_code, only(skipped, "incomplete")) == (3, [("cells", "sd")])


@pytest.mark.parametrize(
    ("rule", "path", "value", "said"),
    [
        ("settings", ("identity", "settings", "max_new_tokens"), 64, "max_new_tokens: 64, the baseline has 48"),
        ("settings", ("identity", "settings", "dtype"), "bfloat16", "dtype: bfloat16"),
        ("questions", ("identity", "questions", "qa"), "0" * 64, "qa: 000000000000…"),
        ("models", ("identity", "weights", "demo-draft"), "f" * 64, "demo-draft: ffffffffffff…"),
        ("metrics", ("quality_metrics", "bleu"), "sacrebleu 3", "bleu: sacrebleu 3, the baseline has sacrebleu case"),
    ],
)
def test_other_suites_models_settings_or_metrics_cannot_be_compared(
    rule: str, path: tuple[str, ...], value: Any, said: str
) -> None:
    manifest = copy.deepcopy(baseline()[2])
    place = manifest
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    judgement = judged(changed(unchanged, manifest=manifest))
    assert judgement.exit_code == 3
    [check] = judgement.of("incomparable")
    assert check.rule == rule and said in check.why


def test_a_decoder_that_is_gone_or_is_set_otherwise_cannot_be_compared() -> None:
    gone = judged(changed(lambda r: None, "sd"))
    assert gone.exit_code == 3 and f"{TARGET} (sd): missing here" in gone.of("incomparable")[0].why
    other = judged(changed(lambda r: {"decoder_options": {**r.decoder_options, "gamma": 4}}, "sd"))
    assert other.exit_code == 3 and "gamma" in other.of("incomparable")[0].why


def test_the_seed_and_the_device_do_not_matter_to_greedy_float32() -> None:
    manifest = copy.deepcopy(baseline()[2])
    manifest["identity"]["settings"] |= {"seed": 7, "device": "cuda:0"}
    judgement = judged(changed(unchanged, manifest=manifest))
    assert judgement.exit_code == 0
    assert found(judgement, "speed-up", "sd").why == "other device (cuda:0; the baseline had cpu)"


def test_a_sampled_runs_ids_are_not_compared_and_its_seed_is() -> None:
    manifest = copy.deepcopy(baseline()[2])
    manifest["identity"]["settings"]["temperature"] = 1.0
    side = ("run", baseline()[1], manifest)
    judgement = judge(side, side, Tolerances(), "skip")
    assert found(judgement, "output ids", "sd").verdict == "not judged"
    other = copy.deepcopy(manifest)
    other["identity"]["settings"]["seed"] = 1
    assert judge(("run", baseline()[1], other), side, Tolerances(), "skip").exit_code == 3


def test_further_decoders_and_a_restless_machine_are_named() -> None:
    manifest = {"conditions": [{"at": "start", "about": "CPU", "what": "busy", "advice": "rest"}] * 2}
    _, records, facts = changed(unchanged, manifest=manifest)
    more = [r.model_copy(update={"label": "new"}) for r in records if r.label == "sd"]
    judgement = judged(("run", [*records, *more], facts))
    assert judgement.exit_code == 0
    assert judgement.notes == [
        "The machine was not at rest: CPU busy and 1 more like it.",
        f"Not in the baseline, not judged: {TARGET}: new.",
    ]


def test_repeats_beyond_the_baselines_are_left_out() -> None:
    name, records, facts = changed(unchanged)
    again = [r.model_copy(update={"repeat": 1, "output_ids": [1]}) for r in records]
    assert judged((name, [*records, *again], facts)).exit_code == 0


def test_a_run_is_found_by_its_folder_or_a_file_in_it(tmp_path: Path) -> None:
    assert check_run(OLD_RUN, OLD_RUN / "manifest.json", speed="skip").exit_code == 0
    (tmp_path / "summary.csv").write_text("target\n")
    with refused(RunFolderError, "summary.csv", "not a run", "manifest.json"):
        check_run(OLD_RUN, tmp_path / "summary.csv")


@pytest.mark.parametrize("whose", ["run", "baseline"])
def test_times_taken_while_something_else_worked_are_not_judged(whose: str) -> None:
    busy = {"at": "start", "about": "CPU", "what": "busy", "advice": "stop it", "passing": True}
    name, records, facts = baseline()
    noisy: Side = (name, records, {**facts, "conditions": [busy]})
    slow = changed(slower(2.0), "sd")
    if whose == "run":
        slow, against = ("run", slow[1], noisy[2]), baseline()
    else:
        against = noisy
    judgement = judge(slow, against, Tolerances(), "auto")
    assert judgement.exit_code == 0
    assert "not at rest (CPU busy)" in found(judgement, "speed-up", "sd").why
    assert judge(slow, against, Tolerances(), "judge").exit_code == 1


def test_how_a_machine_is_set_up_does_not_keep_its_times_from_being_judged() -> None:
    lasting = {"at": "start", "about": "CPU", "what": "governor powersave", "advice": "change it", "passing": False}
    assert judged(changed(slower(2.0), "sd", {"conditions": [lasting]})).exit_code == 1


def test_launches_of_all_baselines_count() -> None:
    """One baseline was made on a slow day: launches of one code then differ by as much as 30 %."""
    slow_day = ("slow day", changed(slower(1.3), "sd")[1], baseline()[2])
    run = changed(slower(1.3), "sd")
    assert judge(run, baseline(), Tolerances(), "auto").exit_code == 1
    judgement = judge(run, baseline(), Tolerances(), "auto", [slow_day])
    assert judgement.exit_code == 0 and found(judgement, "cost ratio", "sd").verdict == "holds"
    assert "2 and 4 launches" in found(judgement, "cost ratio", "sd").why


def test_outputs_are_held_to_the_first_baseline_and_every_baseline_must_be_comparable() -> None:
    other = ("other", changed(wrong_token, "sd")[1], baseline()[2])
    assert judge(changed(unchanged), baseline(), Tolerances(), "auto", [other]).exit_code == 0
    manifest = copy.deepcopy(baseline()[2])
    manifest["identity"]["settings"]["max_new_tokens"] = 64
    strange = ("strange", baseline()[1], manifest)
    assert judge(changed(unchanged), baseline(), Tolerances(), "auto", [strange]).exit_code == 3


def test_a_baseline_of_another_machine_is_left_out_where_another_can_tell() -> None:
    facts = copy.deepcopy(baseline()[2])
    facts["environment"]["cpu"]["model"] = "another"
    elsewhere = ("elsewhere", baseline()[1], facts)
    judgement = judge(changed(slower(1.3), "sd"), elsewhere, Tolerances(), "auto", [baseline()])
    assert ("cost ratio", "sd") in only(judgement, "regressed")


def test_a_decoder_that_decides_by_measured_times_has_a_wider_margin_and_no_cost_ratio() -> None:
    judgement = judged(changed(lambda r: {"decode_s": (r.decode_s or 0) * 1.2}, "s2d-auto"))
    assert judgement.exit_code == 0
    assert not [c for c in judgement.checks if (c.rule, c.label) == ("cost ratio", "s2d-auto")]
    assert judged(changed(lambda r: {"decode_s": (r.decode_s or 0) * 1.5}, "s2d-auto")).exit_code == 1


def test_what_parted_at_a_tie_is_left_out_of_the_figures() -> None:
    """Its text is another, and so are its perplexity, its quality and its steps."""

    def parted(record: Record) -> dict[str, Any]:
        moved = wrong_token(record)
        other = {"nll_sum": 99.0, "quality": dict.fromkeys(record.quality or {}, 1.0)}
        other["emitted_per_step"] = [1] * len(record.emitted_per_step or ())
        return {**moved, **other, "tie_positions": [2]} if moved else {}

    assert judged(changed(parted, "sd")).exit_code == 0


def test_an_audit_that_was_lost_leaves_the_run_incomplete() -> None:
    lost = judged(changed(lambda r: {"divergence": None}, "sd"))
    assert (lost.exit_code, only(lost, "incomplete")) == (3, [("audit", "sd")])


def test_a_baseline_that_can_say_nothing_of_a_row_hides_no_regression() -> None:
    silent = ("silent", changed(lambda r: {"decode_s": None}, "sd")[1], baseline()[2])
    judgement = judge(changed(slower(2.0), "sd"), baseline(), Tolerances(), "auto", [silent])
    assert ("cost ratio", "sd") in only(judgement, "regressed")


def test_where_the_only_baseline_of_this_machine_lacks_a_row_its_times_are_not_judged() -> None:
    facts = copy.deepcopy(baseline()[2])
    facts["environment"]["cpu"]["model"] = "another"
    elsewhere = ("elsewhere", baseline()[1], facts)
    without = ("without", changed(lambda r: None, "sd")[1], baseline()[2])
    judgement = judge(changed(unchanged), elsewhere, Tolerances(), "auto", [without])
    assert found(judgement, "speed-up", "sd").why == "no turn with times that this run and the baseline finished"
