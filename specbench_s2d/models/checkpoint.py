"""Find a checkpoint by name, path or hub id, and read its weights.

Weights are safetensors where there are any, else `pytorch_model.bin` or its shards, which are pickles: those go through
torch's restricted unpickler (`models/pickled.py`), and one that needs more than that is refused.
A shape (`shape:NAME`) is a checkpoint without files of its own: a tokenizer's folder, and weights made when asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError, UnknownNameError, UserError, first_line
from specbench_s2d.models.pickled import PickledWeights
from specbench_s2d.models.shapes import PREFIX, TOKENIZER, Shape
from specbench_s2d.models.weight_files import WeightFiles, find_weights, pickled_names
from specbench_s2d.resources import demo_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# What is fetched of every repository; `.bin` weights only where these hold no weights (`_fetch`).
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.jinja", "tokenizer*", "merges.txt"]
_NOT_FETCHED = ["consolidated*", "adapter_*"]  # the same weights once more under other names; parts of other models


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a Hugging Face checkpoint. `name` is what a person called it.

    With a `shape`, the folder gives the tokenizer alone, and the weights are random.
    """

    name: str
    folder: Path
    revision: str | None = None
    shape: Shape | None = None

    @property
    def weights(self) -> WeightFiles:
        """What the folder holds of weights; raises `ModelError` for an index of shards that cannot be read."""
        return WeightFiles() if self.shape else find_weights(self.folder, self.name)

    @property
    def weight_files(self) -> list[Path]:
        return list(self.weights.files)

    @property
    def random_weights(self) -> bool:
        return self.shape is not None

    def fields(self) -> dict[str, Any]:
        """The fields of the config; raises `ModelError` where it is not JSON."""
        return self.shape.fields if self.shape else _read_json(self, self.folder / "config.json")

    def sha256(self) -> str:
        """Hash of all weight files, in the order of their names; the hub's own hash where it is known."""
        if self.shape:
            return self.shape.sha256()
        whole = hashlib.sha256()
        for file in self.weight_files:
            blob = file.resolve()
            whole.update(blob.name.encode() if re.fullmatch(r"[0-9a-f]{64}", blob.name) else _file_digest(blob))
        return whole.hexdigest()


def demo_names() -> list[str]:
    """Members of the embedded family that are there."""
    return sorted(path.parent.name for path in demo_folder().glob("demo-*/config.json"))


def find_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """Resolve a demo name, a shape (`shape:NAME`), a folder, or a hub id (`owner/name` or `owner/name@revision`).

    Raises `UnknownNameError` for none of these, `ModelError` when the hub refuses or weights lack.
    """
    if name in demo_names():
        return _checked(Checkpoint(name, demo_folder() / name))
    if name.startswith(PREFIX):
        return Checkpoint(name, demo_folder() / TOKENIZER, shape=Shape.find(name))
    if Path(name).is_dir():
        return _checked(Checkpoint(Path(os.path.abspath(name)).name, Path(name)))
    hub_id, _, given = name.partition("@")
    if _HUB_ID.fullmatch(hub_id):
        return _checked(_download(hub_id, revision or given or None))
    raise UnknownNameError.of("model", name, demo_names(), "Or shape:NAME, a folder, or a hub id owner/name.")


def _checked(found: Checkpoint) -> Checkpoint:
    if not (found.folder / "config.json").is_file():
        raise ModelError(f"{found.name}: {found.folder} holds no config.json; give a Hugging Face model folder.")
    weights = found.weights
    if weights.missing:
        shown = ", ".join(weights.missing[:3]) + (" …" if len(weights.missing) > 3 else "")
        raise ModelError(
            f"{found.name}: {shown}, named in its index of weights, not in {found.folder}; fetch it again."
        )
    if not weights.files:
        ends = (".bin", ".pt", ".pth", ".gguf", ".safetensors")
        other = [f.name for f in sorted(found.folder.iterdir()) if f.suffix in ends]
        saw = f"only {', '.join(other[:3])}" if other else "none"
        raise ModelError(
            f"{found.name}: no weights ({saw}): neither .safetensors nor pytorch_model.bin or its shards; convert them "
            "with transformers' save_pretrained, or name a hub revision that has them, as owner/name@refs/pr/N."
        )
    return found


def _download(hub_id: str, revision: str | None) -> Checkpoint:
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = _fetch(hub_id, revision)
    except GatedRepoError:
        raise ModelError(
            f"{hub_id} is gated: accept its terms at https://huggingface.co/{hub_id}, then log in with `hf auth login`."
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{hub_id}: no such model on the hub, or it is private; check the name, or log in with `hf auth login`."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{hub_id}: no revision {revision!r} on the hub; give a branch, a tag or a commit.") from None
    except HFValidationError:
        raise UnknownNameError.of("model", hub_id, demo_names(), "Or a folder, or a hub id owner/name.") from None
    except UserError:
        raise
    except Exception as error:  # a cache without the files, HTTP, the network, a full disk: many unrelated types
        if held := _held_all_the_same(hub_id, error):
            return Checkpoint(hub_id, held, revision=held.name)
        raise ModelError(
            f"{hub_id}: not in the local cache and the hub cannot be reached ({first_line(error)[:160]}); "
            f"download it where there is a network, or give a folder. Demo models: {', '.join(demo_names())}."
        ) from error
    return Checkpoint(hub_id, folder, revision=folder.name)


def _fetch(hub_id: str, revision: str | None) -> Path:
    """The cached snapshot, fetched where it is not: `.bin` weights, at the same commit, where it has no others."""
    from huggingface_hub import snapshot_download

    wanted: dict[str, Any] = {"allow_patterns": _HUB_FILES, "ignore_patterns": _NOT_FETCHED}
    folder = Path(snapshot_download(hub_id, revision=revision, **wanted))
    if not find_weights(folder, hub_id).whole:
        snapshot_download(hub_id, revision=folder.name, allow_patterns=pickled_names(folder, hub_id))
    return folder


def _held_all_the_same(hub_id: str, error: Exception) -> Path | None:
    """The snapshot that an offline hub's client calls incomplete, where its config and weights are whole."""
    snapshot = getattr(error, "snapshot_path", None)
    if snapshot is None or not (Path(snapshot) / "config.json").is_file():
        return None
    return Path(snapshot) if find_weights(Path(snapshot), hub_id).whole else None


def tensor_reader(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> Callable[[str], Tensor]:
    """A function that reads one tensor by name onto the device; raises `ModelError` for a name that is not there."""
    weights = found.weights
    stored = PickledWeights(weights, found.name) if weights.pickled else _safetensors(found)

    def read(name: str) -> Tensor:
        try:
            tensor = stored(name)
        except KeyError:
            raise lacks(found, name) from None
        return tensor.to(device=device, dtype=dtype)

    return read


def _safetensors(found: Checkpoint) -> Callable[[str], Tensor]:
    """A function that reads one tensor by name; raises `KeyError` for a name that is not there."""
    from safetensors import SafetensorError, safe_open

    try:
        opened: list[Any] = [safe_open(str(file), framework="pt") for file in found.weight_files]
        where = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{found.name}: its weight files cannot be read ({error}); fetch them again.") from error
    return lambda name: where[name].get_tensor(name)


def lacks(found: Checkpoint, tensor: str) -> ModelError:
    """The refusal of weights without a tensor that the config calls for."""
    return ModelError(f"{found.name}: the weights lack {tensor!r}; this is not the checkpoint its config describes.")


def eos_ids(found: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end an answer: the tokenizer's, and those of the generation config (Llama 3 has several)."""
    ids: set[int] = set()
    for file in ("config.json", "generation_config.json"):
        path = found.folder / file
        listed = _read_json(found, path).get("eos_token_id") if path.is_file() else None
        ids.update([listed] if isinstance(listed, int) else listed or [])
    if isinstance(tokenizer.eos_token_id, int):
        ids.add(tokenizer.eos_token_id)
    return frozenset(ids)


def _read_json(found: Checkpoint, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{found.name}: {path.name} is not JSON ({error}); fetch it again.") from error
    return content if isinstance(content, dict) else {}


@cache
def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
