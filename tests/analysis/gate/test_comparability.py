"""What manifests must say for two runs to be compared, and for their times to be."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.analysis.gate.comparability import comparability, other_machine
from specbench_s2d.analysis.gate.judge import check_run, judge
from specbench_s2d.analysis.gate.verdict import Tolerances
from specbench_s2d.bench.plan import make_plan
from specbench_s2d.config import RunSpec
from specbench_s2d.runs.folder import MANIFEST
from specbench_s2d.runs.record import Record
from tests.analysis.gate.runs import Run, baseline, changed, found, judged, only, unchanged
from tests.documents import OLD_RECORDS, OLD_RUN


def test_times_of_machines_that_nobody_recorded_are_not_judged() -> None:
    _, records, manifest = baseline()
    unknown = {**manifest, "environment": {}}
    slow = [r.model_copy(update={"decode_s": (r.decode_s or 0) * (2 if r.label == "sd" else 1)}) for r in records]
    judgement = judge(("run", slow, unknown), ("baseline", records, unknown), Tolerances(), "auto")
    assert judgement.exit_code == 0
    assert found(judgement, "speed-up", "sd").why == "neither run records its processor"
    assert other_machine(manifest, manifest) is None


def test_outside_float32_rounding_is_the_devices_own() -> None:
    """The same device by another number will do; another kind of device will not."""

    def on(device: str) -> dict[str, Any]:
        manifest = copy.deepcopy(baseline()[2])
        manifest["identity"]["settings"] |= {"dtype": "bfloat16", "device": device}
        return manifest

    records = baseline()[1]
    for device, exit_code in (("cuda:0", 0), ("cpu", 3)):
        ours, base = ("run", records, on(device)), ("baseline", records, on("cuda:1"))
        assert judge(ours, base, Tolerances(), "skip").exit_code == exit_code


def test_an_imported_run_cannot_be_held_to_a_baseline_that_says_more() -> None:
    name, records, _ = changed(unchanged)
    judgement = judged((name, records, {"schema_version": 1, "imported": ["a.jsonl"]}))
    assert judgement.exit_code == 3
    assert {rule for rule, _ in only(judgement, "incomparable")} == {"settings", "questions", "models", "metrics"}


def test_imported_runs_are_compared_by_what_they_hold() -> None:
    """Nobody recorded whether their decoding was greedy, so their ids are not compared; the rest is."""
    _, records, _ = changed(unchanged)
    judgement = judge(("run", records, {}), ("baseline", records, {}), Tolerances(), "auto")
    assert judgement.exit_code == 0
    assert found(judgement, "output ids", "sd").why == "only greedy outputs are compared"


@pytest.mark.parametrize("top_k", [1, 0])
def test_of_runs_that_are_greedy_in_effect_ids_are_compared_and_seeds_are_not(top_k: int) -> None:
    def at(seed: int) -> dict[str, Any]:
        manifest = copy.deepcopy(baseline()[2])
        manifest["identity"]["settings"] |= {"temperature": 1.0, "top_k": top_k, "seed": seed}
        return manifest

    records = baseline()[1]
    judgement = judge(("run", records, at(0)), ("baseline", records, at(1)), Tolerances(), "skip")
    if top_k == 1:
        assert judgement.exit_code == 0
        assert found(judgement, "output ids", "sd").verdict == "holds"
    else:
        assert only(judgement, "incomparable") == [("settings", "")]


def test_a_run_of_today_can_be_held_to_a_baseline_of_schema_1() -> None:
    """The committed baseline against a manifest of the same command as it is written now."""
    _, records, manifest = baseline()
    today = make_plan(RunSpec(**manifest["spec"])).manifest("run", manifest["environment"])
    assert (today["schema_version"], manifest["schema_version"]) == (2, 1)
    today["targets"] = copy.deepcopy(manifest["targets"])
    for facts in today["targets"].values():
        for engine in facts["engines"].values():
            engine["engine"] = {"graphs": "native"}.get(engine["engine"], engine["engine"])
    checks = comparability(today, manifest, records, records)
    assert {(check.rule, check.verdict, check.why) for check in checks} == {
        (rule, "holds", "") for rule in ("settings", "questions", "models", "decoders", "metrics")
    }
    assert other_machine(today, manifest) is None


def check_of(rule: str, ours: Run, base: Run) -> tuple[str, str]:
    """The verdict and the reason of one rule."""
    [check] = [c for c in comparability(ours[2], base[2], ours[1], base[1]) if c.rule == rule]
    return check.verdict, check.why


@pytest.mark.parametrize(
    ("value", "expected"),
    [("fail", ("holds", "")), ("skip", ("incomparable", "long_prompts: skip, the baseline has fail"))],
)
def test_a_setting_newer_than_the_baseline_matters_where_it_is_not_at_its_default(
    value: str, expected: tuple[str, str]
) -> None:
    older, newer = baseline(), baseline()
    del older[2]["identity"]["settings"]["long_prompts"]
    newer[2]["identity"]["settings"]["long_prompts"] = value
    assert check_of("settings", newer, older) == expected
    assert check_of("settings", older, newer)[0] == expected[0]


def test_an_option_newer_than_the_baseline_is_at_its_default_where_the_label_does_not_name_it() -> None:
    def without_sampling(record: Record) -> dict[str, Any]:
        return {"decoder_options": {n: v for n, v in record.decoder_options.items() if n != "sampling"}}

    older = changed(without_sampling, "sd")
    assert older[1] != baseline()[1]
    assert check_of("decoders", baseline(), older) == check_of("decoders", older, baseline()) == ("holds", "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"decoder_options": {"gamma": 4}}, "demo-s, sd, gamma: 4, the baseline has 5"),
        ({"draft": "demo-tiny"}, "demo-s, sd, draft used: demo-tiny, the baseline has demo-draft-sft"),
    ],
)
def test_another_default_and_another_draft_are_named(change: dict[str, Any], why: str) -> None:
    assert check_of("decoders", changed(lambda record: change, "sd"), baseline()) == ("incomparable", why)


def test_a_decoder_whose_version_was_raised_cannot_be_held_to_its_old_self() -> None:
    raised = baseline()
    raised[2]["identity"]["versions"] = {"sd": {"drafter": 2}}
    expected = ("incomparable", "demo-s, sd, drafter version: 2, the baseline has 1")
    assert check_of("decoders", raised, baseline()) == expected


def test_times_of_one_engine_by_its_old_and_its_new_name_are_judged() -> None:
    manifest = baseline()[2]
    renamed, eager = copy.deepcopy(manifest), copy.deepcopy(manifest)
    for facts in renamed["targets"]["demo-s"]["engines"].values():
        facts["engine"] = "native"
    eager["targets"]["demo-s"]["engines"]["demo-s"]["engine"] = "eager"
    assert other_machine(renamed, manifest) is None
    assert "demo-s eager" in str(other_machine(eager, manifest))


def test_records_of_another_schema_cannot_be_compared(tmp_path: Path) -> None:
    shutil.copy(OLD_RECORDS, tmp_path)
    manifest = json.loads((OLD_RUN / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "schema_version": 99}))
    judgement = check_run(tmp_path, OLD_RUN)
    assert judgement.exit_code == 3
    [check] = judgement.checks
    assert check.rule == "schema" and "schema version 99" in check.why


def test_a_baseline_measured_on_a_restless_machine_is_named() -> None:
    name, records, manifest = baseline()
    busy = {**manifest, "conditions": [{"at": "end", "about": "GPU", "what": "throttled", "advice": "cool it"}]}
    judgement = judge(("run", records, manifest), (name, records, busy), Tolerances(), "skip")
    assert judgement.notes == ["The baseline's machine was not at rest: GPU throttled."]
