"""Which files of a folder count as weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from specbench_s2d.errors import ModelError
from specbench_s2d.models.resolve import ResolvedModel, resolve_model
from specbench_s2d.models.weight_files import INDEX, PICKLED, SAFE, find_weights, pickled_names
from tests.refusals import refused

SHARDS = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(name.encode())


def write_index(folder: Path, name: str, *shards: str) -> None:
    index = {"weight_map": {f"tensor-{i}": shard for i, shard in enumerate(shards)}}
    (folder / name).write_text(json.dumps(index), encoding="utf-8")


def names(folder: Path) -> list[str]:
    return [file.name for file in ResolvedModel("m", folder).weights.files]


def test_the_names_are_transformers() -> None:
    assert (SAFE, PICKLED) == (SAFE_WEIGHTS_NAME, WEIGHTS_NAME)
    assert (SAFE + INDEX, PICKLED + INDEX) == (SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME)


@pytest.mark.parametrize("other", ["pytorch_model.bin", "consolidated.safetensors", "adapter_model.safetensors"])
def test_safetensors_come_first(tmp_path: Path, other: str) -> None:
    write(tmp_path, "model.safetensors", other)
    assert names(tmp_path) == ["model.safetensors"] and not find_weights(tmp_path, "m").pickled


def test_shards_are_those_of_the_index(tmp_path: Path) -> None:
    write(
        tmp_path, *SHARDS, "pytorch_model-00003-of-00003.bin", "training_args.bin", "optimizer.bin", "adapter_model.bin"
    )
    write_index(tmp_path, WEIGHTS_INDEX_NAME, SHARDS[1], SHARDS[0], SHARDS[0])
    assert names(tmp_path) == SHARDS
    found = find_weights(tmp_path, "m")
    assert found.pickled and found.complete
    assert found.shard_of == {
        "tensor-0": tmp_path / SHARDS[1],
        "tensor-1": tmp_path / SHARDS[0],
        "tensor-2": tmp_path / SHARDS[0],
    }
    whole = hashlib.sha256(b"".join(hashlib.sha256(name.encode()).digest() for name in SHARDS)).hexdigest()
    assert ResolvedModel("m", tmp_path).sha256 == whole


@pytest.mark.parametrize("bin_files", [["pytorch_model.bin"], [*SHARDS]])
def test_an_index_without_its_shards_gives_way_to_a_form_that_is_whole(tmp_path: Path, bin_files: list[str]) -> None:
    """As a cache has it that holds every JSON file of a repository, and of its weights the `.bin` files alone."""
    write(tmp_path, *bin_files)
    write_index(tmp_path, WEIGHTS_INDEX_NAME, *SHARDS)
    write_index(tmp_path, SAFE_WEIGHTS_INDEX_NAME, "model-00001-of-00001.safetensors")
    assert names(tmp_path) == bin_files


def test_safetensors_of_other_names_are_taken_where_there_is_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "b.safetensors", "a.safetensors", "adapter_model.safetensors")
    assert names(tmp_path) == ["a.safetensors", "b.safetensors"]
    write(tmp_path, "pytorch_model.bin")
    assert names(tmp_path) == ["pytorch_model.bin"]


@pytest.mark.parametrize("indexed", [True, False])
def test_consolidated_copies_are_no_weights_beside_others(tmp_path: Path, indexed: bool) -> None:
    """Mistral's own format beside transformers', which would be read and hashed twice."""
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write(tmp_path, *shards, "consolidated.safetensors", "consolidated.00.pth")
    (tmp_path / "original").mkdir()
    write(tmp_path / "original", "model.safetensors")
    if indexed:
        write_index(tmp_path, SAFE_WEIGHTS_INDEX_NAME, *shards)
    assert names(tmp_path) == shards


def test_consolidated_weights_alone_are_weights(tmp_path: Path) -> None:
    write(tmp_path, "consolidated.safetensors")
    assert names(tmp_path) == ["consolidated.safetensors"]


@pytest.mark.parametrize("index", [WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_INDEX_NAME])
def test_a_shard_that_is_not_there_is_named(tmp_path: Path, index: str) -> None:
    write(tmp_path, "config.json", SHARDS[0])
    write_index(tmp_path, index, *SHARDS)
    with refused(ModelError, tmp_path.name, SHARDS[1], "not in", "fetch it again"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", "[" * 100_000, '{"weight_map": {}}', '{"weight_map": 3}'),
        *('{"weight_map": {"a": "../b.bin"}}', '{"weight_map": {"a": "a\\u0000b"}}'),  # of odd names
        *('{"weight_map": {"a": ""}}', '{"weight_map": {"a": 3}}'),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, "config.json")
    (tmp_path / WEIGHTS_INDEX_NAME).write_text(text, encoding="utf-8")
    with refused(ModelError, tmp_path.name, WEIGHTS_INDEX_NAME, "fetch it again"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize(
    ("files", "saw"),
    [
        ([], "no weights: neither .safetensors"),
        (["training_args.bin"], "only training_args.bin"),
        (["consolidated.00.pth", "adapter_model.safetensors"], "only adapter_model.safetensors, consolidated.00.pth"),
        (["model.gguf"], "only model.gguf"),
    ],
)
def test_a_folder_without_weights_says_what_it_saw(tmp_path: Path, files: list[str], saw: str) -> None:
    write(tmp_path, "config.json", *files)
    with refused(ModelError, tmp_path.name, "no weights", saw, "save_pretrained"):
        resolve_model(str(tmp_path))


def test_what_to_fetch_is_the_whole_file_and_the_shards_of_the_index(tmp_path: Path) -> None:
    assert pickled_names(tmp_path, "m") == ["medusa_lm_head.pt", "pytorch_model.bin"]
    write_index(tmp_path, WEIGHTS_INDEX_NAME, *SHARDS)
    assert pickled_names(tmp_path, "m") == ["medusa_lm_head.pt", *SHARDS, "pytorch_model.bin"]
