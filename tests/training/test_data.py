"""Reading, splitting, encoding and packing chats."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest

from specbench_s2d.errors import DataError, UserError
from specbench_s2d.models.chat import ChatTemplate, Message
from specbench_s2d.training.data import (
    Chat,
    Encoded,
    batch_rows,
    encode_chats,
    held_out_by_suite,
    pack,
    read_chats,
)

from .factory import chat, tiny_tokenizer, write_chats


def encoded(ids: list[int], answer: list[int], suite: str = "qa") -> Encoded:
    return Encoded(suite, np.array(ids, dtype=np.int32), np.isin(ids, answer))


# Packing


def test_packing_lays_ids_end_to_end_in_rows_of_length_plus_one_and_drops_the_rest() -> None:
    packed = pack([encoded(list(range(10)), answer=[2, 3, 7])], length=3, answers_only=True, seed=0)
    assert packed.ids_BT.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert packed.learn_BT.tolist() == [[False, False, True, True], [False, False, False, True]]


def test_loss_on_all_tokens_marks_every_id() -> None:
    packed = pack([encoded(list(range(8)), answer=[2])], length=3, answers_only=False, seed=0)
    assert packed.learn_BT.all()


def test_packing_shuffles_whole_chats_by_the_seed() -> None:
    chats = [encoded([10 * i, 10 * i + 1], answer=[10 * i + 1]) for i in range(6)]
    rows = pack(chats, length=1, answers_only=True, seed=1)
    assert sorted(rows.ids_BT[:, 0].tolist()) == [0, 10, 20, 30, 40, 50]
    assert (rows.ids_BT[:, 1] - rows.ids_BT[:, 0] == 1).all()
    assert rows.ids_BT.tolist() == pack(chats, 1, True, seed=1).ids_BT.tolist()
    assert rows.ids_BT.tolist() != pack(chats, 1, True, seed=2).ids_BT.tolist()


def test_too_little_data_for_one_sequence_is_refused() -> None:
    with pytest.raises(DataError, match="holds 3 tokens, fewer than one sequence of 5; lower --length"):
        pack([encoded([1, 2, 3], [3])], length=4, answers_only=False, seed=0)
    with pytest.raises(DataError, match="every chat given is held out"):
        pack([], length=4, answers_only=False, seed=0)


# The order of batches


def test_a_batch_is_a_pure_function_of_its_step() -> None:
    forward = [batch_rows(7, 3, step, seed=5).tolist() for step in range(10)]
    backward = [batch_rows(7, 3, step, seed=5).tolist() for step in reversed(range(10))]
    assert forward == backward[::-1]
    assert forward != [batch_rows(7, 3, step, seed=6).tolist() for step in range(10)]


def test_every_epoch_visits_every_row_once_in_its_own_order() -> None:
    visited = np.concatenate([batch_rows(5, 2, step, seed=0) for step in range(10)]).tolist()
    epochs = [visited[i : i + 5] for i in range(0, 20, 5)]
    assert [sorted(epoch) for epoch in epochs] == [[0, 1, 2, 3, 4]] * 4
    assert len({tuple(epoch) for epoch in epochs}) > 1


# The split


def test_the_split_is_the_hash_of_the_first_user_turn() -> None:
    for i in range(200):
        first = int.from_bytes(hashlib.sha256(f"prompt {i}".encode()).digest()[:8], "big")
        assert chat(f"prompt {i}", "x").held_out == (first % 50 == 0)


def test_two_answers_to_one_prompt_never_fall_on_different_sides() -> None:
    for i in range(300):
        followed = Chat("mt", [*chat(f"p{i}", "one").messages, Message(role="user", content="more")])
        assert chat(f"p{i}", "one").held_out == chat(f"p{i}", "two", "other").held_out == followed.held_out


def test_a_system_turn_does_not_decide_the_split() -> None:
    system = Message(role="system", content="Be brief.")
    sides = {Chat("qa", [system, *chat(f"p{i}", "x").messages]).held_out for i in range(300)}
    assert sides == {True, False}


def test_about_one_prompt_in_fifty_is_held_out() -> None:
    count = sum(chat(f"prompt {i}", "x").held_out for i in range(5000))
    assert 60 <= count <= 140  # binomial: mean 100, standard deviation 9.9


def test_validation_takes_the_first_chats_of_each_suite_that_keep_answer_tokens() -> None:
    late = encoded([0, 1, 2, 3, 4, 5], answer=[5])
    first, second, third = (encoded([0, 1, 2, i], answer=[2, i]) for i in (7, 8, 9))
    other = encoded([0, 1], answer=[1], suite="math")
    chosen = held_out_by_suite([late, first, second, third, other], per_suite=2, length=2)
    assert {suite: [c.ids.tolist() for c in chats] for suite, chats in chosen.items()} == {
        "math": [[0, 1]],
        "qa": [[0, 1, 2], [0, 1, 2]],
    }


# Encoding


def test_answers_and_their_end_token_are_learnt_and_prompts_are_not() -> None:
    tokenizer = tiny_tokenizer()
    talk = Chat("mt", [*chat("add one to 1", "it is 2").messages, *chat("and to 2", "it is 3").messages])
    (made,) = encode_chats([talk], ChatTemplate.choose(tokenizer))
    learnt = tokenizer.decode(made.ids[made.answer].tolist())
    prompts = tokenizer.decode(made.ids[~made.answer].tolist())
    assert learnt == "it is 2<|end|>it is 3<|end|>"
    assert prompts == "<|bos|><|user|>add one to 1<|assistant|><|user|>and to 2<|assistant|>"


def test_segments_encode_to_the_ids_of_the_whole_rendering() -> None:
    tokenizer = tiny_tokenizer()
    template = ChatTemplate.choose(tokenizer)
    chats = [chat(" spaced out\n", "  1234 and\ttwo "), chat("é ü 漢字", "🙂"), chat("q", "")]
    for talk, made in zip(chats, encode_chats(chats, template), strict=True):
        whole = template.render(talk.messages, answer_next=False)
        assert made.ids.tolist() == tokenizer.encode(whole, add_special_tokens=False)


def test_the_prompt_that_decoding_sees_is_the_prompt_that_training_saw() -> None:
    template = ChatTemplate.choose(tiny_tokenizer())
    talk = chat("add one to 5", "6")
    (made,) = encode_chats([talk], template)
    assert made.ids[~made.answer].tolist() == template.encode(talk.messages[:1])


def test_a_chat_beyond_the_context_is_encoded_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        encode_chats([chat("x", "7 " * 500)], ChatTemplate.choose(tiny_tokenizer()))
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.messages == []


# Reading


def test_jsonl_gzip_and_folders_read_alike(tmp_path: Path) -> None:
    chats = [chat("a", "b", "s1"), chat("c", "d", "s2")]
    plain = write_chats(tmp_path / "plain.jsonl", chats)
    (tmp_path / "z.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert read_chats([str(plain)]) == read_chats([str(tmp_path / "z.jsonl.gz")]) == chats
    assert read_chats([str(tmp_path)]) == read_chats([str(plain), str(tmp_path / "z.jsonl.gz")]) == chats * 2


def test_a_row_without_a_suite_takes_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "recipes.jsonl"
    path.write_text(json.dumps({"messages": chat("a", "b").messages}) + "\n\n")
    assert [c.suite for c in read_chats([str(path)])] == ["recipes"]


def test_a_hub_data_set_is_read_by_its_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "chats"
    folder.mkdir()
    write_chats(folder / "train.jsonl", [chat("a", "b"), chat("c", "d", "math")])
    write_chats(folder / "test.jsonl", [chat("e", "f")])
    assert read_chats([f"hub:{folder}"]) == [chat("a", "b"), chat("c", "d", "math")]
    assert read_chats([f"hub:{folder}:test"]) == [chat("e", "f")]
    with pytest.raises(DataError, match=r"hub:.*nowhere.*could not be loaded"):
        read_chats([f"hub:{folder}:nowhere"])


TURN = '{"role": "user", "content": "a"}'
BAD_ROWS = {
    "not JSON": b"{nope",
    "not UTF-8": b'{"messages": "\xff"}',
    "a list": b"[1]",
    "no messages": b'{"text": "a"}',
    "one turn": f'{{"messages": [{TURN}]}}'.encode(),
    "no answer": f'{{"messages": [{TURN}, {TURN}]}}'.encode(),
    "answer first": b'{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "a"}]}',
    "unknown role": f'{{"messages": [{TURN}, {{"role": "robot", "content": "a"}}]}}'.encode(),
    "content not text": f'{{"messages": [{TURN}, {{"role": "assistant", "content": 3}}]}}'.encode(),
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_is_named_by_file_and_line(bad: bytes, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "c.jsonl", [chat("a", "b")])
    path.write_bytes(path.read_bytes() + bad + b"\n")
    with pytest.raises(DataError, match=r"c\.jsonl:2: expected") as caught:
        read_chats([str(path)])
    assert "\n" not in str(caught.value)


def test_sources_without_chats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    (tmp_path / "fake.jsonl.gz").write_bytes(b"plain text")
    (tmp_path / "none").mkdir()
    for name, message in {
        "empty.jsonl": "no chats in",
        "torn.jsonl.gz": "a damaged gzip file",
        "fake.jsonl.gz": "a damaged gzip file",
        "none": "no .jsonl or .jsonl.gz file",
        "absent": "no such file or folder",
    }.items():
        with pytest.raises(UserError, match=message):
            read_chats([str(tmp_path / name)])


def test_reading_counts_every_chat_once(tmp_path: Path) -> None:
    path = write_chats(tmp_path / "c.jsonl", [chat(f"q{i}", "a") for i in range(50)])
    assert Counter(c.messages[0]["content"] for c in read_chats([str(path)])) == {f"q{i}": 1 for i in range(50)}
