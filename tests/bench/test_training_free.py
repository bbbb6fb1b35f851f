"""Runs of drafters that need no model, from the plan to the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from specbench_s2d.bench import session
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.bench.warm_up import warm_up
from specbench_s2d.decoding.drafters.recycling import RecyclingDrafter
from specbench_s2d.decoding.sampling import Sampler
from tests.tiny_run import tiny_plan


def plan_of(models: Path, *decoders: str, limit: int = 2) -> Plan:
    suites = ["qa", "mt_bench"][: 1 if limit == 1 else 2]
    return tiny_plan(models, ["ar", *decoders], suite=suites, limit=limit, max_new_tokens=12)


FREE = ["lookup", "suffix", "recycling", "recycling:scope=run", "first(suffix|sd)", "lookup:gamma=auto"]


def test_drafts_without_a_model_are_recorded_and_audited_like_others(tiny_models: Path, tmp_path: Path) -> None:
    records = execute(plan_of(tiny_models, *FREE), tmp_path / "run").records
    assert all(r.status == "ok" for r in records)
    assert {r.label for r in records} == {"ar", *FREE}
    for record in records:
        assert record.divergence is None or record.divergence.verdict != "mismatch"
        if record.label in FREE[:4]:
            assert record.draft is None and record.draft_layers == 0 and record.exit_depths == []
    drafted = {label: sum(r.drafted or 0 for r in records if r.label == label) for label in FREE}
    assert all(drafted.values()), drafted


def test_the_first_question_of_a_run_finds_an_empty_matrix(tiny_models: Path, tmp_path: Path) -> None:
    """Warm-ups decode questions of the run; what they read is dropped before the first timed window."""
    labels = ["recycling", "recycling:scope=run"]
    records = execute(plan_of(tiny_models, *labels, limit=1), tmp_path / "run").records
    anew, kept = ([r for r in records if r.label == label] for label in labels)
    assert [r.drafted_per_step for r in kept] == [r.drafted_per_step for r in anew]


def test_each_warm_up_run_begins_like_the_others(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix that is kept would make every run draft more than the one before, and none steady."""
    rows: list[int] = []
    start = RecyclingDrafter.start

    def noted(drafter: RecyclingDrafter, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        rows.append(len(drafter._rows))
        start(drafter, prompt_ids, sampler)

    monkeypatch.setattr(RecyclingDrafter, "start", noted)
    monkeypatch.setattr(session, "warm_up", warm_up)
    execute(plan_of(tiny_models, "recycling:scope=run", limit=1), tmp_path / "run")
    first, *runs, timed = rows
    assert len(runs) >= 3 and (first, set(runs), timed) == (0, {0}, 0)
