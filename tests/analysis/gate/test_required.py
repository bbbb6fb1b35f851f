"""`--require-speed`: a run whose speed was not judged does not pass, and says why."""

from __future__ import annotations

import copy
from typing import Any
from xml.etree import ElementTree as xml

import pytest

from specbench_s2d.analysis.gate import text
from specbench_s2d.analysis.gate.judge import Side, judge
from specbench_s2d.analysis.gate.required import RULE, require_speed
from specbench_s2d.analysis.gate.verdict import Check, Judgement, Tolerances
from tests.analysis.gate.runs import LABELS, baseline, changed, found, judged, unchanged

DECODERS = len(LABELS) - 1  # AR has no speed-up


def demanded(run: Side, *settings: Any) -> Judgement:
    return require_speed(judged(run, *settings))


def with_facts(*path: str, value: Any) -> Side:
    """The unchanged run whose manifest says `value` at `path`."""
    name, records, manifest = changed(unchanged)
    place = manifest = copy.deepcopy(manifest)
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return name, records, manifest


def test_a_run_whose_speed_was_judged_passes_as_it_did() -> None:
    judgement = demanded(changed(unchanged))
    assert (judgement.exit_code, judgement.notes) == (0, [])
    assert found(judgement, RULE, "") == Check(RULE, "holds", ours=f"{DECODERS} decoders")


BUSY = [{"at": "start", "about": "CPU", "what": "busy", "advice": "stop it", "transient": True}]


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (with_facts("identity", "settings", "device", value="cuda:0"), "other device (cuda:0; the baseline had cpu)"),
        (with_facts("environment", "libraries", "torch", value="3.0"), "other torch (3.0; the baseline had"),
        (with_facts("conditions", value=BUSY), "the machine was not at rest (CPU busy)"),
        (
            changed(lambda r: {"decode_s": None, "draft_s": None}),
            "no turn with times that this run and",
        ),
    ],
    ids=["device", "torch", "busy", "no times"],
)
def test_what_was_not_judged_leaves_the_run_incomplete_and_says_why(run: Side, why: str) -> None:
    assert judged(run).exit_code == 0  # without the demand nothing changes
    judgement = demanded(run)
    assert judgement.exit_code == 3
    check = found(judgement, RULE, "")
    assert (check.verdict, why in check.why) == ("incomplete", True), check
    assert judgement.sentence.endswith(f"Speed was not judged: {check.why}.")


def test_one_decoder_that_was_not_judged_is_enough() -> None:
    judgement = demanded(changed(lambda r: {"decode_s": None, "draft_s": None}, "sd"))
    assert judgement.exit_code == 3
    assert f"(1 of {DECODERS} decoders)" in found(judgement, RULE, "").why


def test_speed_that_is_judged_anywhere_is_enough() -> None:
    assert demanded(with_facts("identity", "settings", "device", value="cuda:0"), "judge").exit_code == 0


def test_a_regression_stays_one() -> None:
    name, records, manifest = changed(lambda r: {"output_ids": [1]}, "sd")
    judgement = demanded((name, records, {**manifest, "conditions": BUSY}))
    assert judgement.exit_code == 1 and found(judgement, RULE, "").verdict == "incomplete"


def test_runs_that_cannot_be_compared_say_that() -> None:
    judgement = demanded(with_facts("identity", "settings", "max_new_tokens", value=64))
    assert (judgement.exit_code, found(judgement, RULE, "").why) == (3, "the runs cannot be compared")


def test_ar_alone_has_no_speed_to_judge() -> None:
    _, records, manifest = baseline()
    alone = ("run", [r for r in records if r.label == "ar"], manifest)
    judgement = judge(alone, alone, Tolerances(), "auto")
    assert judgement.exit_code == 0
    assert require_speed(judgement).exit_code == 3
    assert found(require_speed(judgement), RULE, "").why == "the baseline has no decoder besides ar"


def test_the_reason_stands_on_the_page_and_among_the_test_cases() -> None:
    judgement = demanded(with_facts("conditions", value=BUSY))
    page = text.markdown(judgement)
    assert page.startswith("## ❌ run against baseline: cannot be judged")
    assert "Speed was not judged: the machine was not at rest (CPU busy)" in page.splitlines()[0]
    suite = xml.fromstring(text.junit(judgement))
    assert suite.get("errors") == "1"
    [case] = [case for case in suite if case.get("name") == RULE]
    error = case.find("error")
    assert error is not None and "the machine was not at rest (CPU busy)" in (error.get("message") or "")
