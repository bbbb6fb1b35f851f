"""Outputs beside AR's: which are chosen, and what is marked."""

from __future__ import annotations

import pytest

from specbench_s2d.analysis.report.html import outputs
from tests.analysis.factory import make_record
from tests.analysis.report.html.pages import WILD, records


@pytest.mark.parametrize(
    ("text", "other", "marked", "other_marked"),
    [
        ("a b c", "a x c", ["b"], ["x"]),
        ("a b", "a b", [], []),
        ("", "a", [], ["a"]),
        ("a\nb", "a b", ["\n"], [" "]),
    ],
)
def test_differing_words_are_marked_on_both_sides(
    text: str, other: str, marked: list[str], other_marked: list[str]
) -> None:
    left, right = outputs.differences(text, other)
    assert ["".join(t for _, t in side) for side in (left, right)] == [text, other]
    assert [t for changed, t in left if changed] == marked
    assert [t for changed, t in right if changed] == other_marked


def test_the_first_turn_of_each_suite_beside_ar_s() -> None:
    found = {e.decoder: e for e in outputs.examples(records())}
    assert list(found) == ["sd", "s2d", "mjsd †"]
    sd = found["sd"]
    assert [(e.title, e.verdict, e.same) for e in sd.shown] == [
        ("QA · 1 · turn 2", "mismatch", False),
        ("RAG · 2 · turn 2", "identical", True),
    ]
    assert sd.shown[0].baseline is not None and (True, "three") in sd.shown[0].baseline
    assert "".join(text for _, text in found["mjsd †"].shown[0].output) == WILD


def test_mismatches_come_first_and_what_does_not_fit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MOST_EXAMPLES", 2)
    run = [make_record("sd", 0, output_text="x", divergence={"verdict": "identical"})]
    wrong = {"verdict": "mismatch", "position": 0, "margin": 1.0}
    run += [make_record("sd", n, output_text="y", divergence=wrong) for n in (1, 2, 3)]
    (found,) = outputs.examples(run)
    assert [e.title for e in found.shown] == ["QA · 1 · turn 2", "QA · 2 · turn 2"]
    assert found.left_out == 1
    assert found.shown[0].baseline is None


def test_long_outputs_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MOST_CHARACTERS", 3)
    (found,) = outputs.examples([make_record("sd", 0, output_text="abcdef")])
    assert found.shown[0].output == [(False, "abc")]
