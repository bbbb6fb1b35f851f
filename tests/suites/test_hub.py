"""Datasets of the hub: which configuration and split are taken, and what is said where there are several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specbench_s2d.suites import hub, load_questions
from tests.suites.files import refusal


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`acme/asks` as a local folder, which the library reads as it reads the hub's."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home")
    monkeypatch.setattr(hub, "_lies_here", lambda name: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme" / "asks").mkdir(parents=True)
    return tmp_path / "acme" / "asks"


def save(folder: Path, split: str, **columns: list[Any]) -> None:
    pq.write_table(pa.table(columns), folder / f"{split}.parquet")


def test_the_only_split_is_taken_and_the_suite_has_the_datasets_name(folder: Path) -> None:
    save(folder, "train", turns=[["Hi"], ["Ho", "Hey"]])
    found = load_questions("hub:acme/asks")
    assert [(q.id, q.suite, q.turns) for q in found] == [
        (1, "custom/asks", ("Hi",)),
        (2, "custom/asks", ("Ho", "Hey")),
    ]
    assert found.said == ["hub:acme/asks: questions by suite: 2 custom/asks"]


def test_of_several_splits_it_is_test_or_the_one_named(folder: Path) -> None:
    save(folder, "train", prompt=["Hi"])
    save(folder, "test", prompt=["Ho"])
    assert load_questions("hub:acme/asks", column="prompt").questions[0].turns == ("Ho",)
    assert load_questions("hub:acme/asks:default:train", column="prompt").questions[0].turns == ("Hi",)
    assert load_questions("hub:acme/asks::train", column="prompt").questions[0].turns == ("Hi",)
    assert refusal("hub:acme/asks", None) == (
        "hub:acme/asks: row 1: no 'turns', 'messages' or 'conversations'; name the column that holds the prompt with "
        "--column NAME. There are 'prompt'."
    )
    assert refusal("hub:acme/asks:default:dev", None) == (
        "hub:acme/asks: no split 'dev'; write hub:acme/asks:default:SPLIT with one of train, test."
    )


class Library:
    """The three functions of `datasets` that are used, over a fixed hub; `asked` has their arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, configs: list[str], splits: list[str]) -> None:
        self.asked: list[Any] = []
        monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name, revision: configs)
        monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config, revision: splits)
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def load(self, *args: Any, **options: Any) -> list[dict[str, Any]]:
        self.asked.append((args, options))
        return [{"turns": ["Hi"]}]


def test_revision_configuration_and_split_reach_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch, ["main", "other"], ["train", "test"])
    load_questions("hub:openai/gsm8k@refs/pr/1:main:train")
    load_questions("hub:openai/gsm8k:other")
    assert library.asked == [
        (("openai/gsm8k", "main"), {"split": "train", "revision": "refs/pr/1"}),
        (("openai/gsm8k", "other"), {"split": "test", "revision": None}),
    ]


def test_what_cannot_be_told_apart_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    Library(monkeypatch, ["main", "other"], ["train", "dev"])
    assert refusal("hub:a/b", None) == (
        "hub:a/b: several configurations; write hub:a/b:CONFIG with one of main, other."
    )  # fmt: skip
    assert refusal("hub:a/b:main", None) == (
        "hub:a/b: several splits; write hub:a/b:main:SPLIT with one of train, dev."
    )  # fmt: skip


@pytest.mark.parametrize("source", ["hub:", "hub:a", "hub:a/b c", "hub:a/b@", "hub:a/b:c:d:e"])
def test_another_form_is_told_the_right_one(source: str) -> None:
    assert refusal(source, None) == f"{source}: write hub:OWNER/NAME[@REVISION][:CONFIG[:SPLIT]]."


def test_a_dataset_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, revision: str | None) -> list[str]:
        raise ConnectionError("Couldn't reach the hub\nTraceback …")

    monkeypatch.setattr(datasets, "get_dataset_config_names", unreachable)
    assert refusal("hub:a/b", None) == (
        "hub:a/b: cannot be read (ConnectionError: Couldn't reach the hub); check the name and the network, or give "
        "the data as a Parquet, CSV or JSON file."
    )


def test_a_local_folder_does_not_pass_for_the_hubs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(folder.parents[1])
    assert "acme/asks lies in the current folder too" in refusal("hub:acme/asks", None)
    assert refusal("hub:../asks", None).startswith("hub:../asks: write hub:OWNER/NAME")
