"""The role of a draft: by its checkpoint, or by the table of published drafts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specbench_s2d.analysis.compare.draft_roles import draft_role
from specbench_s2d.models.demo import demo_models


@pytest.mark.parametrize(
    ("draft", "role"),
    [
        (None, "none"),
        ("demo-draft", "sorted"),
        ("demo-draft-sft", "plain"),
        ("demo-tiny", "other"),
        ("parsakaveh/SD2-SoFT-Draft", "sorted"),
        ("double7/vicuna-160m", "other"),
        ("parsakaveh/SD2-SoFT-Draft@main", "sorted"),
        ("org/soft-and-sft-in-its-name", "other"),
    ],
)
def test_a_draft_has_the_role_of_its_files_or_of_the_table(draft: str | None, role: str) -> None:
    assert draft_role(draft) == role


def test_every_demo_model_has_a_role_of_its_own_files() -> None:
    assert {draft_role(model["name"]) for model in demo_models()} == {"sorted", "plain", "other"}


def test_a_checkpoint_at_hand_says_its_role(tmp_path: Path) -> None:
    for name, exits, learnt, role in (
        ("a", [2, 4], "answers", "sorted"), ("b", None, "answers", "plain"), ("c", None, "all", "other"),
    ):  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"specbench_exits": exits} if exits else {}))
        (folder / "training.json").write_text(json.dumps({"spec": {"loss_on": learnt}}))
        assert draft_role(str(folder)) == role
