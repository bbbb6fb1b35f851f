"""What is fetched of a repository, by the hub's own client over a repository and a cache that are folders here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from huggingface_hub import _snapshot_download as client
from huggingface_hub.hf_api import RepoFile
from safetensors import safe_open

from specbench_s2d.errors import ModelError
from specbench_s2d.models import load_model
from specbench_s2d.models.resolve import resolve_model
from tests.refusals import refused
from tests.vicuna import as_bin, as_safetensors, as_shards, write_vicuna

HUB_ID = "lmsys/vicuna-tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNWANTED = (
    "training_args.bin",
    "optimizer.bin",
    "adapter_model.bin",
    "adapter_model.safetensors",
    "consolidated.00.pth",
    "consolidated.safetensors",
    "pytorch_model.fp16.bin",
    "flax_model.msgpack",
    "modeling_own.py",
)


class Hub:
    """Stands in for the network below `snapshot_download`: counts revisions looked up and listings, keeps what was
    fetched."""

    def __init__(self, files: Path, cache: Path) -> None:
        self.files, self.cache, self.online = files, cache, True
        self.resolved, self.listings, self.fetched = 0, 0, list[str]()

    def repo_info(self, **options: Any) -> SimpleNamespace:
        self._ask()
        self.resolved += 1
        return SimpleNamespace(sha=COMMIT)

    def list_repo_tree(self, **options: Any) -> list[RepoFile]:
        self._ask()
        self.listings += 1
        files = {str(file.relative_to(self.files)): file for file in self.files.rglob("*") if file.is_file()}
        return [RepoFile(path=path, size=file.stat().st_size, oid="0") for path, file in sorted(files.items())]

    def download(self, repo_id: str, *, filename: str, revision: str, **options: Any) -> str:
        held = self.snapshot / filename
        if not held.exists():
            self._ask()
            self.fetched.append(filename)
            held.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.files / filename, held)
        return str(held)

    @property
    def snapshot(self) -> Path:
        return self.cache / "models--lmsys--vicuna-tiny" / "snapshots" / COMMIT

    def _ask(self) -> None:
        if not self.online:
            raise httpx2.ConnectError("no network")


def safetensors_names(file: Path) -> list[str]:
    with safe_open(str(file), framework="pt") as opened:
        return list(opened.keys())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub with one repository, whose files a test writes into `hub.files`, unwanted ones among them."""
    made = Hub(tmp_path / "repository", tmp_path / "cache")
    monkeypatch.setattr(client, "HfApi", lambda **options: made)
    monkeypatch.setattr(client, "hf_hub_download", made.download)
    monkeypatch.setattr(client.constants, "HF_HUB_CACHE", str(made.cache))
    return made


def publish(hub: Hub, *forms: Any) -> None:
    write_vicuna(hub.files, forms[0])
    for save in forms[1:]:
        other = write_vicuna(hub.files.parent / save.__name__, save)
        shutil.copytree(other, hub.files, dirs_exist_ok=True)
    for name in UNWANTED:
        (hub.files / name).write_bytes(b"not wanted")


@pytest.mark.parametrize("save", [as_bin, as_shards])
def test_bin_weights_are_fetched_where_there_are_no_others(hub: Hub, save: Any) -> None:
    publish(hub, save)
    found = resolve_model(HUB_ID)
    assert (found.name, found.revision) == (HUB_ID, COMMIT)
    assert set(hub.fetched) == {file.name for file in hub.files.iterdir()} - set(UNWANTED)
    assert hub.listings == hub.resolved == 1 and len(hub.fetched) == len(set(hub.fetched))
    assert load_model(HUB_ID, "cpu").identity.revision == COMMIT


def test_bin_weights_are_left_where_there_are_safetensors(hub: Hub) -> None:
    publish(hub, as_safetensors, as_bin, as_shards)
    assert not resolve_model(HUB_ID).weights.pickled
    assert [name for name in hub.fetched if name.endswith((".bin", ".safetensors"))] == ["model.safetensors"]


def copies_in_folders(hub: Hub) -> None:
    """The same weights once more, where other programs look for them."""
    for name in ("original/model.safetensors", "onnx/model.safetensors", "fp32/model-00001-of-00002.safetensors"):
        (hub.files / name).parent.mkdir(exist_ok=True)
        (hub.files / name).write_bytes(b"not wanted")


@pytest.mark.parametrize("whole", [False, True], ids=["shards", "a whole file"])
def test_of_several_sets_of_safetensors_one_is_fetched(hub: Hub, whole: bool) -> None:
    """The whole file, else the shards of the index: no copies beside them, and none of folders."""
    publish(hub, as_safetensors)
    copies_in_folders(hub)
    (hub.files / "model.fp16.safetensors").write_bytes(b"not wanted")
    weights = hub.files / "model.safetensors"
    wanted = ["model.safetensors"]
    if not whole:
        wanted = ["model-00001-of-00001.safetensors"]
        index = dict.fromkeys(safetensors_names(weights), wanted[0])
        weights.rename(hub.files / wanted[0])
        (hub.files / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    found = resolve_model(HUB_ID)
    assert [name for name in hub.fetched if name.endswith(".safetensors")] == wanted
    assert [file.name for file in found.weights.files] == wanted
    assert hub.listings == hub.resolved == 1
    hub.online = False
    assert resolve_model(HUB_ID).sha256 == found.sha256


def test_safetensors_of_another_name_are_fetched_where_there_are_no_others(hub: Hub) -> None:
    publish(hub, as_safetensors)
    copies_in_folders(hub)
    (hub.files / "model.safetensors").rename(hub.files / "weights.safetensors")
    resolve_model(HUB_ID)
    assert [name for name in hub.fetched if name.endswith(".safetensors")] == ["weights.safetensors"]


@pytest.mark.parametrize("save", [as_bin, as_shards, as_safetensors])
def test_what_was_fetched_is_found_again_without_a_network(hub: Hub, save: Any) -> None:
    publish(hub, save)
    found = resolve_model(HUB_ID)
    hub.online, before = False, list(hub.fetched)
    assert resolve_model(HUB_ID) == found
    assert hub.fetched == before


def test_a_cache_with_bin_weights_alone_serves_without_a_network(hub: Hub) -> None:
    """Whoever filled it, of a repository that has safetensors too: known from a listing, or from nothing."""
    publish(hub, as_bin, as_safetensors)
    shutil.copytree(hub.files, hub.snapshot)
    (hub.snapshot / "model.safetensors").unlink()
    refs = hub.snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    hub.online = False
    assert resolve_model(HUB_ID).weights.pickled
    hub.online = True
    client.snapshot_download(HUB_ID, allow_patterns=["*.bin"])
    hub.online = False
    assert resolve_model(HUB_ID).weights.pickled


def test_a_cache_without_all_weights_is_refused_without_a_network(hub: Hub) -> None:
    publish(hub, as_shards)
    resolve_model(HUB_ID)
    (hub.snapshot / "pytorch_model-00002-of-00002.bin").unlink()
    hub.online = False
    with refused(ModelError, HUB_ID, "not in the local cache", "cannot be reached"):
        resolve_model(HUB_ID)


def test_a_repository_without_weights_is_refused(hub: Hub) -> None:
    publish(hub, as_bin)
    (hub.files / "pytorch_model.bin").unlink()
    with refused(ModelError, HUB_ID, "no weights: neither"):
        resolve_model(HUB_ID)
