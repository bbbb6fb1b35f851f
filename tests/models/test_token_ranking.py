"""Rankings: counted, stored, read again, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from specbench_s2d import load_model
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.resolve import ResolvedModel, resolve_model
from specbench_s2d.models.token_ranking import RANKING_FILE, ranked, small_vocabulary, stored_ranking, write_ranking
from specbench_s2d.resources import demo_folder
from tests.refusals import refused


def letters(text: str, **_: Any) -> dict[str, list[int]]:
    """A tokenizer of the letters a to h."""
    return {"input_ids": [ord(letter) - ord("a") for letter in text if "a" <= letter <= "h"]}


def draft(**changed: Any) -> Any:
    return SimpleNamespace(**{"name": "it", "vocabulary": 8, "tokenizer": letters, "ranking": None, **changed})


def counted(folder: Path, text: str, size: int) -> tuple[int, ...]:
    file = folder / "some.txt"
    file.write_text(text, encoding="utf-8")
    vocabulary = small_vocabulary(draft(), size, str(file))
    assert vocabulary is not None and vocabulary.full_size == 8
    return vocabulary.ids


def test_the_most_frequent_come_first_ties_by_id_and_those_never_seen_last_by_id() -> None:
    assert ranked([2, 0, 5, 2, 0, 5]) == [2, 5, 0, 3, 1, 4]


def test_a_text_is_counted(tmp_path: Path) -> None:
    text = "gg e\nc gb\n\neb!\n"  # g 3, b and e 2, c 1
    assert counted(tmp_path, text, 1) == (6,)
    assert counted(tmp_path, text, 2) == (1, 6)
    assert counted(tmp_path, text, 3) == (1, 4, 6)
    assert counted(tmp_path, text, 5) == (0, 1, 2, 4, 6)
    assert counted(tmp_path, text, 8) == tuple(range(8))


def test_a_text_that_changed_is_counted_again(tmp_path: Path) -> None:
    assert counted(tmp_path, "aa b", 1) == (0,)
    assert counted(tmp_path, "a bbb", 1) == (1,)


def test_a_long_text_is_counted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specbench_s2d.models.token_ranking._PIECE_CHARACTERS", 4)
    assert counted(tmp_path, "ab\ncc\n" * 50 + "h" * 101, 1) == (7,)


def test_a_stored_ranking_is_read_again(tmp_path: Path) -> None:
    write_ranking(tmp_path, [0, 4, 4, 9, 0, 0, 0, 1], {"qa": {"chats": 3}})
    assert json.loads((tmp_path / RANKING_FILE).read_text())["data"] == {"qa": {"chats": 3}}
    ranking = stored_ranking(tmp_path, "it")
    for size, ids in ((1, (3,)), (2, (1, 3)), (3, (1, 2, 3)), (4, (1, 2, 3, 7)), (5, (0, 1, 2, 3, 7))):
        vocabulary = small_vocabulary(draft(ranking=ranking), size, None)
        assert vocabulary is not None and vocabulary.ids == ids
    write_ranking(tmp_path, [7, 0, 0, 0, 0, 0, 0, 0], {})
    assert small_vocabulary(draft(ranking=ranking), 1, None).ids == (0,)  # type: ignore[union-attr]
    assert small_vocabulary(draft(ranking=ranking), None, None) is None
    assert [file.name for file in tmp_path.iterdir()] == [RANKING_FILE]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"counts": 3}',
        '{"counts": [1, 2]}',
        '{"counts": [0, 1, 2, 3, 4, 5, 6, -1]}',
        '{"counts": "12345678"}',
    ],
)
def test_a_damaged_ranking_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / RANKING_FILE).write_text(content)
    with refused(
        ModelError, "it: token_ranking.json is no count of its tokens", "train ranking --draft DIR --data FILE"
    ):
        small_vocabulary(draft(ranking=stored_ranking(tmp_path, "it")), 2, None)


@pytest.mark.parametrize("size", [0, -3, 9])
def test_a_size_that_the_draft_does_not_have_is_refused(size: int) -> None:
    with refused(UserError, f"draft_vocabulary={size}: draft it has a vocabulary of 8 ids; give 1 to 8."):
        small_vocabulary(draft(), size, None)


def test_a_draft_without_a_ranking_is_refused_with_what_to_do() -> None:
    said = "draft it holds no token_ranking.json; make one with `specbench-s2d train ranking --draft DIR --data FILE`"
    with refused(UserError, "draft_vocabulary=4: ", said, "or give vocabulary_from=FILE"):
        small_vocabulary(draft(), 4, None)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "no such file"),
        ("empty.txt", b"", "no text in this file"),
        ("blank.txt", b" \n\n\t\n", "no text in this file"),
        ("silent.txt", b"zz xx\n", "no text in this file"),
        ("latin.txt", b"caf\xe9\n", "a binary file (not UTF-8 text)"),
        ("zeros.txt", b"abc\0abc\n", "a binary file (with NUL characters)"),
        (".", None, "a folder"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with refused(UserError, f"vocabulary_from={file}: {said}"):
        small_vocabulary(draft(), 4, str(file))


def test_the_demo_drafts_hold_rankings_and_their_hashes_are_those_of_their_weights() -> None:
    for name in ("demo-draft", "demo-draft-sft", "demo-tiny"):
        model = resolve_model(name)
        assert model.ranking is not None
        assert sorted(model.ranking.ids(2048)) == list(range(2048))
        (eos,) = model.eos_ids
        assert eos in model.ranking.ids(2048)[:64], "every answer ends with it"
        assert ResolvedModel(name, demo_folder() / name).sha256 == model.sha256
    assert resolve_model("demo-s").ranking is None


def test_a_loaded_model_has_the_ranking_of_its_folder(tiny_models: Path) -> None:
    for lean in (True, False):
        model = load_model(str(tiny_models / "tiny-draft"), "cpu", lean=lean)
        assert model.ranking is not None and model.ranking.ids(model.vocabulary)[:3] == [0, 3, 6]
    assert load_model(str(tiny_models / "tiny-target"), "cpu").ranking is None


def test_random_weights_are_cut_by_the_order_of_their_ids() -> None:
    vocabulary = small_vocabulary(resolve_model("shape:demo-draft"), 3, None)
    assert vocabulary is not None and vocabulary.ids == (0, 1, 2)


def test_the_hash_of_the_weights_does_not_know_the_ranking(tmp_path: Path, tiny_models: Path) -> None:
    import shutil

    folder = tmp_path / "it"
    shutil.copytree(tiny_models / "tiny-draft", folder)
    before = ResolvedModel("it", folder).sha256
    write_ranking(folder, [1] * 8, {})
    assert ResolvedModel("it", folder).sha256 == before
