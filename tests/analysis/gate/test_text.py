"""A judgement as a table, as Markdown, as JUnit XML and as JSON."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree as xml

import pytest
from rich.console import Console

from specbench_s2d.analysis.gate import text
from specbench_s2d.analysis.gate.verdict import Check, Judgement, Verdict

CHECKS = [
    Check("settings", "holds"),
    Check("MAT", "holds", "t", "sd", "2.4", "2.4"),
    Check("speed-up", "improved", "t", "sd", "1.3", "1.1", "1.18 of the baseline's"),
    Check("cost ratio", "regressed", "t", "sd", "0.4", "0.3", "1.3 | <b>"),
    Check("acceptance", "not judged", "t", "sd", why="no times"),
    Check("acceptance", "not judged", "t", "s2d", why="no times"),
]
JUDGEMENT = Judgement("run", "base", CHECKS, ["The machine was not at rest: CPU: busy."])


def verdict(*verdicts: Verdict) -> int:
    return Judgement("run", "base", [Check("r", v) for v in verdicts]).exit_code


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("holds", "not judged", "improved"), 0),
        (("holds", "regressed"), 1),
        (("incomparable",), 3),
        (("holds", "incomplete"), 3),
        (("incomplete", "regressed"), 1),  # what is known to be worse is worse, whatever is missing
        (("not judged", "not judged"), 3),  # nothing was judged: no pass in silence
        ((), 3),
    ],
)
def test_the_exit_code_follows_from_all_checks(verdicts: tuple[Verdict, ...], expected: int) -> None:
    assert verdict(*verdicts) == expected


def test_the_verdict_is_one_sentence() -> None:
    assert JUDGEMENT.sentence == "run against base: regressed (2 holds, 1 improved, 2 not judged, 1 regressed)."


def test_the_terminal_shows_the_worst_first_and_counts_the_rest() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(text.render(JUDGEMENT))
    file = console.file
    assert isinstance(file, io.StringIO)
    shown = file.getvalue()
    assert shown.index("cost ratio") < shown.index("speed-up") < shown.index("2 rows")
    assert "Hold: settings, MAT." in shown and "CPU: busy" in shown and JUDGEMENT.sentence in shown


def test_markdown_escapes_and_folds_away_what_holds() -> None:
    page = text.markdown(JUDGEMENT)
    assert page.startswith("## ❌ run against base: regressed")
    assert "| cost ratio | t, sd | regressed | 0.4 | 0.3 | 1.3 \\| \\<b\\> |" in page
    assert "<details><summary>2 checks hold</summary>" in page
    assert "- The machine was not at rest: CPU: busy." in page
    assert text.markdown(Judgement("run", "base", CHECKS[:2])).startswith("## ✅ run against base: holds")


def test_junit_has_a_case_per_check() -> None:
    suite = xml.fromstring(text.junit(JUDGEMENT))
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6", "failures": "1", "errors": "0", "skipped": "2"
    }  # fmt: skip
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.get("message") == "0.4 (baseline 0.3); 1.3 | <b>"
    assert [case.get("classname") for case in suite][:2] == ["run", "t, sd"]
    broken = xml.fromstring(text.junit(Judgement("run", "base", [Check("models", "incomparable", why="x")])))
    assert (broken.get("errors"), broken.find("testcase/error") is not None) == ("1", True)


def test_json_holds_everything() -> None:
    facts = json.loads(text.as_json(JUDGEMENT))
    assert facts["exit_code"] == 1 and facts["notes"] == JUDGEMENT.notes
    assert facts["checks"][3] == {
        "rule": "cost ratio", "verdict": "regressed", "target": "t", "label": "sd",
        "ours": "0.4", "baseline": "0.3", "why": "1.3 | <b>", "detectable": None,
    }  # fmt: skip


def test_a_reason_why_no_speed_was_judged_stands_once_on_the_screen() -> None:
    untimed = [
        Check("speed-up", "not judged", "t", label, why="the machine was not at rest (CPU busy)") for label in "ab"
    ]
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(text.render(Judgement("run", "base", [*CHECKS[:2], *untimed])))
    shown = console.export_text()
    assert shown.count("at rest") == 1
    assert "Speed was not judged: the machine was not at rest (CPU busy)." in shown
