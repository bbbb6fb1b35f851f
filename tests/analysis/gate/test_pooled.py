"""Figures beside the baseline's: margins at their edges, and figures that are missing or no numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from specbench_s2d.analysis.gate.judge import judge
from specbench_s2d.analysis.gate.verdict import Tolerances
from specbench_s2d.errors import UserError
from specbench_s2d.runs.record import Record
from tests.analysis.gate.runs import baseline, changed, found, judged, only
from tests.refusals import refused


def timed(draft: float = 1.0, decode: float = 1.0) -> Any:
    """Draft and decode seconds times these."""
    return lambda r: {"draft_s": r.draft_s * draft, "decode_s": r.decode_s * decode}


def test_a_margin_of_nothing_is_the_strictest() -> None:
    slower = judged(changed(timed(draft=1.1), "sd"), cost=0.0)
    assert only(slower, "regressed") == [("cost ratio", "sd")]
    faster = judged(changed(timed(draft=0.9), "sd"), cost=0.0)
    assert only(faster, "improved") == [("cost ratio", "sd")]
    assert only(judged(changed(timed(decode=1.1), "sd"), speed=0.0), "regressed") == [("speed-up", "sd")]
    assert judged(changed(timed()), cost=0.0, speed=0.0, mat=0.0, perplexity=0.0).exit_code == 0


@pytest.mark.parametrize("share", [math.nan, math.inf, -0.1])
@pytest.mark.parametrize("name", ["speed", "cost", "mat", "perplexity", "moved_perplexity", "moved_cells"])
def test_a_tolerance_that_nothing_could_exceed_is_refused(name: str, share: float) -> None:
    with refused(UserError, name, "share of 0 or more"):
        Tolerances(**{name: share})


def test_a_perplexity_that_is_no_number_is_a_regression() -> None:
    judgement = judged(changed(lambda r: {"nll_sum": math.nan}, "ar"))
    assert only(judgement, "regressed") == [("perplexity", "ar")]


@pytest.mark.parametrize(
    ("field", "rules"),
    [
        ("nll_sum", ["perplexity"]),
        ("emitted_per_step", ["MAT"]),
        ("quality", ["chrF", "BLEU", "R-1", "R-2", "R-L", "EM", "F1", "acc"]),
    ],
)
def test_figures_that_some_of_our_cells_lost_leave_the_run_incomplete(field: str, rules: list[str]) -> None:
    judgement = judged(changed(lambda r: {field: None} if r.turn == 0 and hash_of(r) % 2 else {}, "sd"))
    assert judgement.exit_code == 3
    lost = [rule for rule, _ in only(judgement, "incomplete")]
    assert lost and set(lost) <= set(rules)


def hash_of(record: Record) -> int:
    return int(record.key[-1], 16)


def test_a_baseline_without_the_figure_has_nothing_to_lose() -> None:
    name, records, manifest = baseline()
    bare = [r.model_copy(update={"nll_sum": None}) for r in records]
    judgement = judge(("run", records, manifest), (name, bare, manifest), Tolerances(), "skip")
    assert judgement.exit_code == 0 and ("perplexity", "sd") in only(judgement, "not judged")


def test_drafts_that_were_not_recorded_are_named_and_not_passed_over() -> None:
    """What an imported file does not say: acceptance and cost are not judged, in so many words."""
    name, records, manifest = changed(lambda r: {"drafted_per_step": None, "draft_s": None})
    judgement = judge((name, records, manifest), ("baseline", records, manifest), Tolerances(), "auto")
    assert found(judgement, "MAT", "sd").verdict == "holds"
    assert {("cost ratio", "sd"), ("acceptance rate", "sd")} <= set(only(judgement, "not judged"))
    assert ("MAT", "ar") not in only(judgement, "holds", "not judged")


def test_an_acceptance_rate_that_fell_is_found_on_any_machine() -> None:
    other = {"environment": {**baseline()[2]["environment"], "cpu": {"model": "another", "threads": 2}}}
    fewer = changed(lambda r: {"accepted_per_step": [max(0, n - 1) for n in r.accepted_per_step or []]}, "sd", other)
    assert only(judged(fewer), "regressed") == [("acceptance rate", "sd")]


def test_times_are_those_of_the_cells_that_both_finished() -> None:
    """A question that the baseline failed at, slow here, is not in its speed-up and may not be in ours."""
    name, records, manifest = baseline()
    first = records[0].question_id
    base = [r.model_copy(update={"status": "failed"}) if r.question_id == first else r for r in records]
    ours = [r.model_copy(update={"decode_s": (r.decode_s or 0) * 50}) if first == r.question_id else r for r in records]
    ours = [mine if mine.label == "sd" else r for mine, r in zip(ours, records, strict=True)]
    judgement = judge(("run", ours, manifest), (name, base, manifest), Tolerances(), "judge")
    assert found(judgement, "speed-up", "sd").why.startswith("1.000 of the baseline's")
