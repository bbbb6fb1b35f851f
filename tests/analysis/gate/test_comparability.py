"""What manifests must say for two runs to be compared, and for their times to be."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

from specbench_s2d.analysis.gate.comparability import other_machine
from specbench_s2d.analysis.gate.judge import check_run, judge
from specbench_s2d.analysis.gate.verdict import Tolerances
from specbench_s2d.runs.folder import MANIFEST, RECORDS
from tests.analysis.gate.runs import baseline, changed, found, judged, only, unchanged
from tests.documents import DEMO_RUN


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


def test_records_of_another_schema_cannot_be_compared(tmp_path: Path) -> None:
    shutil.copy(DEMO_RUN / RECORDS, tmp_path / RECORDS)
    manifest = json.loads((DEMO_RUN / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "schema_version": 99}))
    judgement = check_run(tmp_path, DEMO_RUN)
    assert judgement.exit_code == 3
    [check] = judgement.checks
    assert check.rule == "schema" and "schema version 99" in check.why


def test_a_baseline_measured_on_a_restless_machine_is_named() -> None:
    name, records, manifest = baseline()
    busy = {**manifest, "conditions": [{"at": "end", "about": "GPU", "what": "throttled", "advice": "cool it"}]}
    judgement = judge(("run", records, manifest), (name, records, busy), Tolerances(), "skip")
    assert judgement.notes == ["The baseline's machine was not at rest: GPU: throttled."]
