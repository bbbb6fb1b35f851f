"""GGUF files: the model of transformers' own loader, from the cache afterwards, and one line for each bad file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from specbench_s2d.errors import ModelError
from specbench_s2d.models import gguf, load_model
from specbench_s2d.models.named import WeightsSource
from specbench_s2d.models.resolve import resolve_model
from tests.gguf_files import LAYERS, TEMPLATE, Kind, write_gguf
from tests.refusals import refused

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def tokenizer(tiny_models: Path) -> PreTrainedTokenizerFast:
    found: Any = AutoTokenizer.from_pretrained(str(tiny_models / "tiny-other"))
    assert isinstance(found, PreTrainedTokenizerFast)
    return found


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Kind.F32, "F32 weights of tiny.gguf"),
        (Kind.F16, "F16 weights of tiny.gguf"),
        (Kind.Q8_0, "Q8_0 weights of tiny.gguf, dequantised to float32"),
        (Kind.Q4_1, "Q4_1 weights of tiny.gguf, dequantised to float32"),
    ],
)
def test_logits_are_those_of_transformers_own_loader(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, kind: Kind, said: str
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tokenizer, kind)
    theirs: Any = AutoModelForCausalLM.from_pretrained(str(tmp_path), gguf_file=path.name, dtype=torch.float32)
    ours = load_model(str(path), "cpu", engine="eager")
    ids_BT = torch.arange(40)[None] * 7 % len(tokenizer)
    with torch.inference_mode():
        torch.testing.assert_close(ours.extend(ids_BT), theirs(ids_BT).logits, atol=1e-4, rtol=0)
    assert ours.identity.forward == "lean" and ours.identity.name == "tiny.gguf"
    assert str(ours.identity.source) == said


def test_tokenizer_and_template_are_the_files(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    found = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", tokenizer))).tokenizer
    text = "The capital of France is Paris."
    assert found.encode(text) == tokenizer.encode(text)
    pieces = [piece for piece, _ in found.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a\n\n12")]
    assert pieces == [
        "a",
        "ĊĊ",
        "1",
        "2",
    ]  # llama.cpp's rule for smollm: digits first, so that line breaks stay together
    assert (found.chat_template, found.eos_token) == (TEMPLATE, tokenizer.eos_token)
    assert len(found) == len(tokenizer)  # without the end of text that transformers adds
    assert max(found.encode("<|endoftext|>")) < len(tokenizer)


@pytest.mark.parametrize(
    ("pre", "said"),
    [("smollm", ""), ("gpt-2", ""), ("llama-bpe", ""), ("own", "as GPT-2's, for the file's own way ('own')")],
)
def test_a_way_of_splitting_text_that_is_not_known_is_said(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, pre: str, said: str
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tokenizer, **{"tokenizer.ggml.pre": pre})
    source = str(resolve_model(str(path)).source)
    assert said in source and source.startswith("F32 weights of tiny.gguf") and (";" in source) == bool(said)


def test_a_file_is_converted_once_whatever_it_is_called(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", tokenizer)))
    monkeypatch.setattr(gguf, "_convert", lambda *_: pytest.fail("converted twice"))
    again = resolve_model(str((tmp_path / "tiny.gguf").rename(tmp_path / "other.gguf")))
    assert (again.folder, again.name, again.sha256) == (first.folder, "other.gguf", first.sha256)
    assert first.folder.is_relative_to(cache) and first.depth == LAYERS


def test_a_conversion_that_stops_leaves_nothing(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tokenizer)

    def stop(file: gguf.GgufFile, out: Path) -> None:
        out.mkdir()
        (out / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(gguf, "_convert", stop)
        with pytest.raises(KeyboardInterrupt):
            resolve_model(str(path))
    assert [kept for kept in (cache / "gguf").iterdir() if kept.suffix != ".lock"] == []
    assert resolve_model(str(path)).depth == LAYERS


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "architecture": ({"architecture": "rwkv6"}, ["architecture 'rwkv6'", "safetensors"]),
    "quantisation": ({"kind": Kind.MXFP4}, ["quantisation MXFP4", "Q8_0"]),
    "split": ({"split.count": 3}, ["one of 3 parts", "llama-gguf-split --merge"]),
    "tokenizer type": ({"tokenizer.ggml.model": "rwkv"}, ["its tokenizer (rwkv)", "gpt2"]),
    "no tokenizer": ({"tokenizer.ggml.model": None}, ["it has no tokenizer"]),
    "rotary scaling": ({"llama.rope.scaling.type": "yarn"}, ["rotary scaling", "safetensors"]),
    "10^9 layers": ({"llama.block_count": 10**9}, ["num_hidden_layers is 1,000,000,000", "1 to 10,000"]),
    "no layers": ({"llama.block_count": None}, ["no block_count"]),
    "a text for a width": ({"llama.feed_forward_length": "many"}, ["intermediate_size is many"]),
    "a tensor missing": ({"without": "blk.1.ffn_up.weight"}, ["lacks 'model.layers.1.mlp.up_proj.weight'"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, case: str) -> None:
    changes, parts = BAD[case]
    path = write_gguf(tmp_path / "tiny.gguf", tokenizer, **changes)
    with refused(ModelError, "tiny.gguf", *parts):
        resolve_model(str(path))


@pytest.mark.parametrize(
    ("kept", "said"), [(0, "not a whole"), (12, "not a whole"), (900, "not a whole"), (-9, "cut short")]
)
def test_a_file_that_is_cut_is_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, kept: int, said: str
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tokenizer)
    path.write_bytes(path.read_bytes()[:kept])
    with refused(ModelError, "tiny.gguf", said, "fetch it again"):
        resolve_model(str(path))


def test_merges_without_their_tokens_are_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tokenizer)
    content = path.read_bytes()
    merge = b"t h"
    assert content.count(merge) >= 1
    path.write_bytes(content.replace(merge, b"\x01 \x02"))
    with refused(ModelError, "tiny.gguf", "its tokenizer cannot be rebuilt"):
        resolve_model(str(path))


def test_a_part_is_known_by_its_name_before_it_is_read_or_fetched() -> None:
    with refused(ModelError, "one of 4 parts"):
        resolve_model("owner/name:model-00001-of-00004.gguf")


def test_no_file_and_no_package(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused(ModelError, "no such file", "owner/name:file.gguf"):
        resolve_model(str(tmp_path / "none.gguf"))
    path = write_gguf(tmp_path / "tiny.gguf", tokenizer)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with refused(ModelError, "tiny.gguf", "pip install 'specbench-s2d[gguf]'"):
        resolve_model(str(path))


def test_memory_that_converting_takes_is_counted(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tokenizer, Kind.Q8_0)
    needed = gguf.read_header(path, path.name).loading_bytes
    source = WeightsSource("file", path.name)
    with refused(ModelError, "tiny.gguf", "converting it takes", "are free"):
        gguf.converted(path, source, free=lambda device: needed - 1)
    assert gguf.converted(path, source, free=lambda device: needed).folder.is_dir()


def test_a_file_of_the_hub_is_fetched_alone(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshots" / ("c0ffee" * 6)
    (snapshot / "sub").mkdir(parents=True)
    write_gguf(snapshot / "sub" / "tiny.gguf", tokenizer, Kind.Q8_0)
    asked = []

    def fetch(hub_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((hub_id, revision, allow_patterns))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    found = resolve_model("owner/name@v2:sub/tiny.gguf")
    assert asked == [("owner/name", "v2", ["sub/tiny.gguf"])]
    assert found.name == "owner/name:sub/tiny.gguf"
    said = "Q8_0 weights of owner/name at c0ffeec0ffee, sub/tiny.gguf, dequantised to float32"
    assert str(found.source) == said
    with refused(ModelError, "owner/name", "no file 'other.gguf'"):
        resolve_model("owner/name:other.gguf")
