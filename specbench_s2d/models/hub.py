"""A hub repository's files in the local cache, fetched where they are not there yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from specbench_s2d.errors import ModelError, UnknownNameError, UserError, in_one_line
from specbench_s2d.models.config_check import FILE
from specbench_s2d.models.demo import demo_names
from specbench_s2d.models.weight_files import OTHER_SAFE, find_weights, pickled_names, safe_names

# What is fetched of every repository; of its weights one form alone (`_fetch`).
_FILES = ["*.json", "*.model", "*.jinja", "tokenizer*", "merges.txt"]
_NOT_FETCHED = ["consolidated*", "adapter_*"]  # the same weights once more under other names; parts of other models


def fetch_snapshot(hub_id: str, revision: str | None) -> Path:
    """The folder of a repository's snapshot, named by its commit; raises `ModelError` where the hub refuses.

    Raises `UnknownNameError` for what is no hub id.
    """
    return _from_hub(hub_id, revision, lambda: _fetch(hub_id, revision), lambda found: _has_model(found, hub_id))


def fetch_file(hub_id: str, file: str, revision: str | None) -> tuple[Path, str]:
    """One file of a repository in the local cache, and the commit; raises as `fetch_snapshot` does."""
    from huggingface_hub import snapshot_download

    def fetch() -> Path:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=[file]))

    folder = _from_hub(hub_id, revision, fetch, lambda snapshot: (snapshot / file).is_file())
    if not (folder / file).is_file():
        raise ModelError(f"{hub_id}: no file {file!r} in this repository; its page on the hub lists what there is.")
    return folder / file, folder.name


def _from_hub(hub_id: str, revision: str | None, fetch: Callable[[], Path], complete: Callable[[Path], bool]) -> Path:
    """The folder that `fetch` gives; what the hub's client raises becomes one line. `complete`: whether a snapshot that
    an offline client calls incomplete has all that is wanted."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return fetch()
    except GatedRepoError:
        raise ModelError(
            f"{hub_id} is gated: accept its terms at https://huggingface.co/{hub_id}, then log in with `hf auth login`."
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{hub_id}: no folder of that name, and no such model on the hub, or it is private; check the name, or "
            "log in with `hf auth login`."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{hub_id}: no revision {revision!r} on the hub; give a branch, a tag or a commit.") from None
    except HFValidationError:
        raise UnknownNameError.of("model", hub_id, demo_names(), "Or a folder, or a hub id owner/name.") from None
    except UserError:
        raise
    except Exception as error:  # a cache without the files, HTTP, the network, a full disk: many unrelated types
        snapshot = getattr(error, "snapshot_path", None)
        if snapshot is not None and complete(Path(snapshot)):
            return Path(snapshot)
        raise ModelError(
            f"{hub_id}: no folder of that name, not in the local cache, and the hub cannot be reached "
            f"({in_one_line(error, 160)}); download it where there is a network, or give a folder. "
            f"Demo models: {', '.join(demo_names())}."
        ) from error


def _fetch(hub_id: str, revision: str | None) -> Path:
    """The cached snapshot with one form of its weights, at one commit: the first that there is of the whole file, the
    shards that the index names, safetensors of other names, and `.bin` files."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=_FILES, ignore_patterns=_NOT_FETCHED))
    try:
        for names in safe_names(folder, hub_id):
            others = [*_NOT_FETCHED, "*/*"] if names == OTHER_SAFE else None
            wanted = [FILE, *names]  # with a file that every repository has: the client warns where nothing is found
            snapshot_download(hub_id, revision=folder.name, allow_patterns=wanted, ignore_patterns=others)
            found = find_weights(folder, hub_id)
            if found.complete and not found.pickled:
                return folder
        snapshot_download(hub_id, revision=folder.name, allow_patterns=pickled_names(folder, hub_id))
    except Exception:  # a form that the cache lacks, and no network
        if not _has_model(folder, hub_id):
            raise
    return folder


def _has_model(folder: Path, hub_id: str) -> bool:
    return (folder / FILE).is_file() and find_weights(folder, hub_id).complete
