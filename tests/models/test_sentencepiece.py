"""Tokenizers that are a tokenizer.model alone, as those of the Vicuna line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from specbench_s2d.errors import ModelError
from specbench_s2d.models import check_pair
from specbench_s2d.models.chat import ChatTemplate, Message
from specbench_s2d.models.resolve import load_tokenizer, resolve_model
from specbench_s2d.training.data import Chat, encode_chats
from tests.refusals import refused
from tests.vicuna import TEXTS as SOURCES
from tests.vicuna import VOCABULARY, as_bin, write_sentencepiece, write_vicuna

SENTENCES = ["A chat with Tom", "12 apples\n\n  and 3 pears", "grüße, 你好 🙂", "polite\tanswers."]
QUESTION: list[Message] = [{"role": "user", "content": "Who has 12 apples?"}]
TURNS: list[Message] = [*QUESTION, {"role": "assistant", "content": "Tom"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's three files and nothing else."""
    out = tmp_path_factory.mktemp("tokenizer")
    write_sentencepiece(out)
    return out


@pytest.fixture(scope="module")
def pieces(folder: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def test_ids_are_sentencepieces_and_transformers(folder: Path, pieces: sentencepiece.SentencePieceProcessor) -> None:
    ours, theirs = load_tokenizer(str(folder)), AutoTokenizer.from_pretrained(str(folder))
    assert not (folder / "tokenizer.json").exists()
    for text in SENTENCES:
        ids = ours.encode(text)
        assert ids == [1, *pieces.encode(text)] == theirs.encode(text)
        assert ours.decode(ids, skip_special_tokens=True) == text
    assert ours.get_vocab() == {pieces.id_to_piece(i): i for i in range(VOCABULARY)}
    assert (ours.bos_token_id, ours.eos_token_id, len(ours)) == (1, 2, VOCABULARY)


@pytest.mark.parametrize("legacy", [None, False, True])
def test_a_prompt_is_bos_and_the_text_as_sentencepiece_writes_it(
    tmp_path: Path, pieces: sentencepiece.SentencePieceProcessor, legacy: bool | None
) -> None:
    """FastChat's prompts, which Spec-Bench takes: the tokenizer puts BOS before a text that begins with a word."""
    write_sentencepiece(tmp_path, **({} if legacy is None else {"legacy": legacy}))
    template = ChatTemplate.choose(load_tokenizer(str(tmp_path)), "vicuna")
    text = template.render(QUESTION)
    assert text.startswith("<s>A chat between")
    assert template.encode(QUESTION) == [1, *pieces.encode(text.removeprefix("<s>"))]


def test_training_sees_the_ids_of_the_prompt(folder: Path) -> None:
    template = ChatTemplate.choose(load_tokenizer(str(folder)), "vicuna")
    (encoded,) = encode_chats([Chat("qa", TURNS)], template)
    prompt = template.encode(QUESTION)
    assert encoded.ids[: len(prompt)].tolist() == prompt
    assert encoded.answer.tolist() == [i >= len(prompt) for i in range(len(encoded.ids))]


def test_a_tokenizers_own_template_is_encoded_as_it_stands(folder: Path) -> None:
    tokenizer: PreTrainedTokenizerBase = load_tokenizer(str(folder))
    tokenizer.chat_template = "{{ bos_token }}{{ messages[0].content }}"
    expected = tokenizer.apply_chat_template([dict(turn) for turn in QUESTION], tokenize=True, return_dict=False)
    assert ChatTemplate.choose(tokenizer).encode(QUESTION) == expected


def test_pairs_are_told_by_their_words(tmp_path: Path) -> None:
    target, draft = (resolve_model(str(write_vicuna(tmp_path / name, as_bin))) for name in ("target", "draft"))
    check_pair(target, draft)
    other = write_vicuna(tmp_path / "other", as_bin)
    write_sentencepiece(other, [text[::-1] for text in SOURCES])
    with refused(ModelError, "target", "other", "differently"):
        check_pair(target, resolve_model(str(other)))


def test_a_pair_of_a_tokenizer_json_and_a_tokenizer_model_fits(tmp_path: Path) -> None:
    """As of Vicuna's targets and JackFram's or double7's drafts, which hold a tokenizer.json too."""
    target = write_vicuna(tmp_path / "target", as_bin)
    draft = Path(shutil.copytree(target, tmp_path / "draft"))
    AutoTokenizer.from_pretrained(str(target)).save_pretrained(str(draft))
    (draft / "tokenizer.model").unlink()
    assert (draft / "tokenizer.json").is_file()
    check_pair(resolve_model(str(target)), resolve_model(str(draft)))


def test_words_and_merges_alone_are_a_tokenizer(tmp_path: Path) -> None:
    """OPT's and GPT-2's files."""
    words = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}
    (tmp_path / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n", encoding="utf-8")
    config = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_tokenizer(str(tmp_path)).encode("ab", add_special_tokens=False) == [4]


def test_a_damaged_model_file_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "tokenizer.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with refused(ModelError, "broken", "tokenizer.model", "sentencepiece", "protobuf"):
        load_tokenizer(str(broken))
