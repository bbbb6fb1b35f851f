"""Where weights come from: a demo name, a folder or the hub."""

from __future__ import annotations

import hashlib
import logging
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.named import full_name
from specbench_s2d.models.resolve import ResolvedModel, load_tokenizer, resolve_model
from tests.refusals import refused

HUB_ID = "owner/some-model"


class Hub:
    """Stands in for `snapshot_download`: keeps what was asked, and answers with a folder or an error."""

    def __init__(self, answer: Path | Exception) -> None:
        self.answer, self.asked = answer, list[tuple[str, str | None]]()
        self.patterns: list[str] = []

    def __call__(self, hub_id: str, revision: str | None = None, **options: Any) -> str:
        assert not any(pattern.endswith((".pt", ".py")) for pattern in options["allow_patterns"])
        self.asked.append((hub_id, revision))
        self.patterns += options["allow_patterns"]
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


def install(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> Hub:
    hub = Hub(answer)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    return hub


RESPONSE: Any = SimpleNamespace(headers={}, request=None)  # what the hub's errors carry, whichever HTTP library it uses


def test_a_hub_id_is_fetched_at_the_revision_asked_for(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = install(monkeypatch, tiny_models / "tiny-draft")
    found = resolve_model(f"{HUB_ID}@refs/pr/3")
    assert (found.name, found.revision) == (HUB_ID, "tiny-draft")  # a snapshot's folder is named by its commit
    resolve_model(HUB_ID, revision="v1")
    resolve_model(HUB_ID)
    given = [(HUB_ID, "refs/pr/3"), (HUB_ID, "v1"), (HUB_ID, None)]
    assert [asked for asked in hub.asked if asked != (HUB_ID, "tiny-draft")] == given, "the rest at the commit found"


@pytest.mark.parametrize(
    "file", ["tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja"]
)
def test_whatever_a_tokenizer_is_made_of_is_fetched(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """OPT's and GPT-2's are a vocab.json and a merges.txt, without a tokenizer.json."""
    hub = install(monkeypatch, tiny_models / "tiny-draft")
    resolve_model(HUB_ID)
    assert any(fnmatch(file, pattern) for pattern in hub.patterns)


def test_a_folder_is_taken_before_the_hub(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = install(monkeypatch, RuntimeError("the hub was asked"))
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "some-model").symlink_to(tiny_models / "tiny-draft")
    monkeypatch.chdir(tmp_path)
    assert resolve_model(HUB_ID).folder == Path(HUB_ID)
    assert hub.asked == []


HUB_REFUSALS = {
    "gated": (
        GatedRepoError("no access\nat all", response=RESPONSE),
        ["gated", f"https://huggingface.co/{HUB_ID}", "hf auth login"],
    ),
    "not found or private": (
        RepositoryNotFoundError("404\nline", response=RESPONSE),
        ["no such model", "hf auth login"],
    ),
    "no such revision": (RevisionNotFoundError("404\nline", response=RESPONSE), ["no revision 'v9'"]),
    "offline": (
        LocalEntryNotFoundError("cannot find\nthe files"),
        ["not in the local cache", "cannot be reached", "folder"],
    ),
    "the hub fails": (HfHubHTTPError("500 Server Error\nx", response=RESPONSE), ["500 Server Error"]),
    "the network fails": (RuntimeError("connection reset\nby peer"), ["connection reset", "cannot be reached"]),
    "no space": (OSError(28, "No space left on device"), ["No space left on device"]),
}


@pytest.mark.parametrize("case", HUB_REFUSALS)
def test_what_the_hub_refuses_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    error, parts = HUB_REFUSALS[case]
    install(monkeypatch, error)
    with refused(ModelError, HUB_ID, *parts):
        resolve_model(f"{HUB_ID}@v9")


def test_a_path_that_is_not_there_is_no_name_of_the_hub(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = install(monkeypatch, RuntimeError("the hub was asked"))
    with refused(ModelError, "./models: no such folder; give a model's folder, a GGUF file, a name, or a hub id"):
        resolve_model("./models")
    with refused(ModelError, "/no/such/folder: no such folder", "There is no folder /no/such either."):
        resolve_model("/no/such/folder")
    with refused(ModelError, "no such folder", "Did you mean 'tiny-target'"):
        resolve_model(str(tiny_models / "tiny-targt"))
    for name in ("pytorch_model.bin", "x/MODEL.SAFETENSORS", "config.json"):
        with refused(
            ModelError, f"{name}: no such file; a model is given by its folder, a GGUF file, a name, or a hub id"
        ):
            resolve_model(name)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("file", "what"), [("model.safetensors", "a file of weights"), ("config.json", "a file, and no GGUF file")]
)
def test_a_file_in_place_of_its_folder_is_told_so(tiny_models: Path, file: str, what: str) -> None:
    folder = tiny_models / "tiny-target"
    with refused(ModelError, f"{file}: is {what}; give the folder of the model, which has its config.json: {folder}."):
        resolve_model(str(folder / file))


@pytest.mark.parametrize(
    ("given", "name"),
    [("Demo_S", "demo-s"), ("demo s", "demo-s"), ("demol", "demo-l"), ("demo-draft-s", "demo-draft-sft"),
     ("shape:Vicuna 7B", "shape:vicuna-7b")],
)  # fmt: skip
def test_a_name_is_taken_as_people_write_it(given: str, name: str) -> None:
    assert resolve_model(given).name == full_name(given) == name


@pytest.mark.parametrize(
    ("given", "near"), [("vicuna-v1", "vicuna-7b-v1.3"), ("vicuna-7b", "vicuna-7b-v1.5"), ("dmo-s", "demo-s")]
)
def test_a_name_of_several_models_or_of_none_brings_the_nearest(given: str, near: str) -> None:
    with refused(UserError, f"unknown model {given!r}. Did you mean ", repr(near)):
        resolve_model(given)


def test_a_folder_a_path_and_a_hub_id_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demol").mkdir()
    assert [full_name(name) for name in ("demol", "./demo_s", "owner/Demo_S")] == ["demol", "./demo_s", "owner/Demo_S"]
    with refused(ModelError, "demol: ", "holds no config.json"):
        resolve_model("demol")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with refused(ModelError, tmp_path.name, "config.json", "GGUF file by its name"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("name", ["", "no-such-model", "a/b/c", "owner/"])
def test_any_other_name_is_unknown(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(UserError, "model" if name else "unknown model"):
        resolve_model(name)


def test_the_hash_covers_every_shard_in_order_of_name(tmp_path: Path) -> None:
    for name, content in (("b.safetensors", b"two"), ("a.safetensors", b"one"), ("c.json", b"not weights")):
        (tmp_path / name).write_bytes(content)
    expected = hashlib.sha256(hashlib.sha256(b"one").digest() + hashlib.sha256(b"two").digest()).hexdigest()
    assert ResolvedModel("m", tmp_path).sha256 == expected


def test_a_hub_blob_is_known_by_its_name(tmp_path: Path) -> None:
    """The hub's cache links to blobs named by their SHA-256: gigabytes need not be read again."""
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert ResolvedModel("m", tmp_path).sha256 == hashlib.sha256(("ab" * 32).encode()).hexdigest()


def test_texts_beyond_the_context_are_encoded_without_a_word(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer("demo-s")
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert len(tokenizer.encode("a b " * 3000)) > tokenizer.model_max_length
    assert not caplog.records
