"""The role of a draft: by its checkpoint, by the table of published drafts, by what a run did with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.analysis.compare.draft_roles import draft_role
from specbench_s2d.models.demo import demo_models
from specbench_s2d.runs.record import Record
from tests.analysis.factory import decoded


def used(label: str, model: str, **options: Any) -> Record:
    return decoded(label, 1, [(1, 1, 2)], decode_s=1, draft=model, decoder_options=options)


@pytest.mark.parametrize(
    ("draft", "role"),
    [
        (None, "none"),
        ("demo-draft", "sorted"),
        ("demo-draft-sft", "plain"),
        ("demo-tiny", "other"),
        ("parsakaveh/SD2-SoFT-Draft", "sorted"),
        ("double7/vicuna-160m", "other"),
        ("org/soft-and-sft-in-its-name", "other"),
    ],
)
def test_known_drafts_have_their_role_however_they_are_used(draft: str | None, role: str) -> None:
    assert draft_role(draft, [used("sd", str(draft))]) == role


def test_every_demo_model_has_a_role_of_its_own_files() -> None:
    assert {draft_role(model["name"], []) for model in demo_models()} == {"sorted", "plain", "other"}


def test_a_checkpoint_at_hand_says_its_role(tmp_path: Path) -> None:
    for name, exits, learnt, role in (
        ("a", [2, 4], "answers", "sorted"), ("b", None, "answers", "plain"), ("c", None, "all", "other"),
    ):  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"specbench_exits": exits} if exits else {}))
        (folder / "training.json").write_text(json.dumps({"spec": {"loss_on": learnt}}))
        assert draft_role(str(folder), []) == role


def test_an_unknown_draft_is_told_by_its_use() -> None:
    assert draft_role("d", [used("s2d", "d")]) == "sorted"
    assert draft_role("d", [used("sd:exit=2", "d", exit=2)]) == "sorted"
    assert draft_role("d", [used("sd:draft=d,exit=2", "d", exit=2, draft="d")]) == "plain"
    assert draft_role("d", [used("sd", "d")]) == "other"
    assert draft_role("d", [used("s2d", "another")]) == "other"
