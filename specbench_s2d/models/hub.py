"""A hub repository's files in the local cache, fetched where they are not there yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from specbench_s2d.errors import ModelError, UnknownNameError, UserError, first_line
from specbench_s2d.models.demo import demo_names
from specbench_s2d.models.weight_files import find_weights, pickled_names

# What is fetched of every repository; `.bin` weights only where these hold no weights (`_fetch`).
_FILES = ["*.safetensors", "*.json", "*.model", "*.jinja", "tokenizer*", "merges.txt"]
_NOT_FETCHED = ["consolidated*", "adapter_*"]  # the same weights once more under other names; parts of other models


def fetch_snapshot(hub_id: str, revision: str | None) -> Path:
    """The folder of a repository's snapshot, named by its commit; raises `ModelError` where the hub refuses.

    Raises `UnknownNameError` for what is no hub id.
    """
    return _from_hub(hub_id, revision, lambda: _fetch(hub_id, revision))


def fetch_file(hub_id: str, file: str, revision: str | None) -> tuple[Path, str]:
    """One file of a repository in the local cache, and the commit; raises as `fetch_snapshot` does."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        path = _from_hub(hub_id, revision, lambda: Path(hf_hub_download(hub_id, file, revision=revision)))
    except RemoteEntryNotFoundError:
        raise ModelError(f"{hub_id}: no file {file!r} in this repository; its page lists what there is.") from None
    return path, path.parents[len(Path(file).parts) - 1].name


def _from_hub(hub_id: str, revision: str | None, fetch: Callable[[], Path]) -> Path:
    """What `fetch` gives; what the hub's client raises becomes one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return fetch()
    except RemoteEntryNotFoundError:
        raise
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
        if snapshot := _complete_all_the_same(hub_id, error):
            return snapshot
        raise ModelError(
            f"{hub_id}: not in the local cache and the hub cannot be reached ({first_line(error)[:160]}); "
            f"download it where there is a network, or give a folder. Demo models: {', '.join(demo_names())}."
        ) from error


def _fetch(hub_id: str, revision: str | None) -> Path:
    """The cached snapshot; `.bin` weights, at the same commit, where it has no others."""
    from huggingface_hub import snapshot_download

    wanted: dict[str, Any] = {"allow_patterns": _FILES, "ignore_patterns": _NOT_FETCHED}
    folder = Path(snapshot_download(hub_id, revision=revision, **wanted))
    if not find_weights(folder, hub_id).complete:
        snapshot_download(hub_id, revision=folder.name, allow_patterns=pickled_names(folder, hub_id))
    return folder


def _complete_all_the_same(hub_id: str, error: Exception) -> Path | None:
    """The snapshot that an offline hub's client calls incomplete, where its config and weights are there."""
    snapshot = getattr(error, "snapshot_path", None)
    if snapshot is None or not (Path(snapshot) / "config.json").is_file():
        return None
    return Path(snapshot) if find_weights(Path(snapshot), hub_id).complete else None
