"""The demo family: its recipe, and one command that can be stopped and repeated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.training.demo import FAMILY, Member, train_family
from specbench_s2d.training.trainer import Progress

from .factory import sums, write_chats

TINY = (
    Member("demo-s", "new", 400_000, 2, width=64, feed_forward=24, length=16),
    Member("demo-draft-sft", "cut", 300_000, 1, source="demo-s", loss_on="answers", length=16),
    Member("demo-draft", "cut", 300_000, 2, source="demo-s", loss_on="answers", length=16, exits=(1, 2)),
    Member("demo-m", "grow", 300_000, 3, source="demo-s", length=16),
)


def family(
    folder: Path, only: tuple[str, ...] = (), watch: Any = lambda p: None, vocabulary: int = 300
) -> tuple[dict[str, Any], list[str]]:
    data, out = str(write_chats(folder / "c.jsonl", sums(200))), folder / "family"
    said: list[str] = []
    made = train_family([data], out, only, 1e-3, "cpu", "demo", said.append, watch, TINY, vocabulary)
    return made, said


def test_the_family_is_trained_once(tmp_path: Path) -> None:
    made, said = family(tmp_path)
    assert list(made) == ["demo-s", "demo-draft-sft", "demo-draft", "demo-m"]
    assert [line.partition(":")[0] for line in said] == ["tokenizer", *made]
    assert {p.name for p in (tmp_path / "family").iterdir()} == {*made, "tokenizer", "LICENSE-NOTE.md"}
    assert made["demo-s"]["tokens"] == 384  # 400 of 64 a step: 6 steps
    assert made["demo-m"]["tokens_inherited"] == 384
    assert made["demo-draft-sft"]["spec"]["loss_on"] == "answers"
    for name, layers in {"demo-s": 2, "demo-draft-sft": 1, "demo-draft": 2, "demo-m": 3}.items():
        config = json.loads((tmp_path / "family" / name / "config.json").read_text())
        assert config["num_hidden_layers"] == layers
        assert config.get("specbench_exits") == ([1, 2] if name == "demo-draft" else None)
        assert "research use only" in (tmp_path / "family" / name / "README.md").read_text()
    assert family(tmp_path) == ({}, [])


def test_a_stopped_family_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    family(tmp_path / "whole")
    steps = iter(range(100))

    def stop(_: Progress) -> None:
        if next(steps) == 8:  # in the second member
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        family(tmp_path / "cut", watch=stop)
    made, _ = family(tmp_path / "cut")
    assert list(made) == ["demo-draft-sft", "demo-draft", "demo-m"]
    for name in ("demo-s", "demo-draft-sft", "demo-draft", "demo-m"):
        whole, cut = ((tmp_path / f / "family" / name / "model.safetensors").read_bytes() for f in ("whole", "cut"))
        assert whole == cut


def test_members_can_be_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown family member 'demo-xs'. Did you mean 'demo-s'"):
        family(tmp_path, ("demo-xs",))
    with pytest.raises(UserError, match=r"--only demo-m: it starts from demo-s, which .* add --only demo-s"):
        family(tmp_path, ("demo-m",))
    assert not (tmp_path / "family").exists()
    assert list(family(tmp_path, ("demo-s",))[0]) == ["demo-s"]
    assert list(family(tmp_path, ("demo-m",))[0]) == ["demo-m"]


def test_a_finished_members_tokenizer_is_the_familys(tmp_path: Path) -> None:
    family(tmp_path, ("demo-s",))
    shutil.rmtree(tmp_path / "family" / "tokenizer")
    made, said = family(tmp_path, ("demo-draft",), vocabulary=270)  # one trained now would be another
    assert list(made) == ["demo-draft"] and [line.partition(":")[0] for line in said] == ["demo-draft"]
    words = [(tmp_path / "family" / name / "tokenizer.json").read_text() for name in ("demo-s", "demo-draft")]
    assert words[0] == words[1]
    assert not (tmp_path / "family" / "tokenizer").exists()


def test_a_launcher_of_several_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without a launcher"):
        family(tmp_path)


def test_what_a_kill_after_the_last_rename_leaves_is_cleared(tmp_path: Path) -> None:
    family(tmp_path, ("demo-s",))
    (tmp_path / "family" / "demo-s.work").mkdir()
    family(tmp_path, ("demo-s",))
    assert not (tmp_path / "family" / "demo-s.work").exists()


def test_the_recipe_is_the_family_of_the_design() -> None:
    members = {member.name: member for member in FAMILY}
    assert {name: member.layers for name, member in members.items()} == {
        "demo-s": 8,
        "demo-m": 12,
        "demo-l": 20,
        "demo-draft-sft": 4,
        "demo-draft": 4,
        "demo-tiny": 2,
    }
    plain, nested = (members[name].spec(1.0, "cpu") for name in ("demo-draft-sft", "demo-draft"))
    assert plain.loss_on == "answers" and plain.exits == () and nested.exits == (2, 3, 4)
    assert nested == plain.model_copy(update={"exits": (2, 3, 4)})  # the same tokens and steps, in the same order
    done: set[str] = set()
    for member in FAMILY:
        assert not member.source or member.source in done  # a source is trained before what starts from it
        done.add(member.name)
