"""Which files of a folder are its weights: safetensors before `.bin`, under the names that transformers looks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specbench_s2d.errors import ModelError
from specbench_s2d.files import why_no_file
from specbench_s2d.models.model_files import read_object

# transformers' SAFE_WEIGHTS_NAME and WEIGHTS_NAME; the index of shards is named after the whole file. Whatever else
# ends in .bin (training_args, optimizer, an adapter) is no checkpoint's weights.
SAFE = "model.safetensors"
PICKLED = "pytorch_model.bin"
INDEX = ".index.json"
OTHER_SAFE = ["*.safetensors"]
MEDUSA = "medusa_lm_head"
"""The file of Medusa's heads, as .safetensors or .pt (a pickle)."""


@dataclass(frozen=True)
class WeightFiles:
    """One form of a checkpoint's weights: its files in the order of their names, and shards that are not there.

    `shard_of`: the file of each tensor by the index, empty where there is none. `pickled`: the files are `.bin` or
    `.pt`.
    """

    files: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()
    shard_of: dict[str, Path] = field(default_factory=dict)
    pickled: bool = False

    @property
    def complete(self) -> bool:
        return bool(self.files) and not self.missing

    @property
    def of_medusa(self) -> bool:
        """Whether they are Medusa's heads, beside which a tokenizer may stand."""
        return [file.stem for file in self.files] == [MEDUSA]


def find_weights(folder: Path, name: str) -> WeightFiles:
    """The weights in `folder`: the first complete form of safetensors, `.bin`, safetensors of any other name, and
    Medusa's `.pt`.

    Where none is complete, the first with a file or an index. Raises `ModelError` for an index that cannot be read.
    """
    forms = [_form(folder, SAFE, name), _form(folder, PICKLED, name), _other_safetensors(folder), _medusa(folder)]
    complete = [form for form in forms if form.complete]
    begun = [form for form in forms if form.files or form.missing]
    return next(iter(complete + begun), WeightFiles())


def safe_names(folder: Path, name: str) -> Iterator[list[str]]:
    """What to fetch of safetensors for a folder that has the index, if there is one, until they are complete: the whole
    file, the index's shards, files of other names."""
    yield [SAFE]
    if (index := folder / (SAFE + INDEX)).is_file():
        yield sorted(set(read_index(index, name).values()))
    yield OTHER_SAFE


def pickled_names(folder: Path, name: str) -> list[str]:
    """The pickles to fetch for a folder that has the index, if there is one: whole files' names and the shards'."""
    index = folder / (PICKLED + INDEX)
    return sorted({PICKLED, MEDUSA + ".pt", *(read_index(index, name).values() if index.is_file() else ())})


def read_index(index: Path, name: str) -> dict[str, str]:
    """The file name of each tensor; raises `ModelError` for what is not an index of files beside it."""
    listed: Any = read_object(index, name).get("weight_map")
    named = listed.values() if isinstance(listed, dict) else ()
    if not named or not all(isinstance(shard, str) and _is_file_name(shard) for shard in named):
        raise ModelError(
            f"{name}: {index.name} is no index of weights (its weight_map names no files beside it); fetch it again."
        )
    return dict(listed)


def not_usable(folder: Path, files: Iterable[str]) -> str:
    """Why these files of a folder cannot be used, as `(a.bin is a pipe)`; empty where they are simply not there."""
    found = ((file, why_no_file(folder / file)) for file in files)
    said = [f"{file} is {why}" for file, why in found if why]
    return f" ({', '.join(said[:3])})" if said else ""


def _is_file_name(text: str) -> bool:
    return Path(text).name == text and 0 < len(text) < 256 and text.isprintable()


def _form(folder: Path, whole_name: str, name: str) -> WeightFiles:
    pickled = whole_name == PICKLED
    if (folder / whole_name).is_file():
        return WeightFiles((folder / whole_name,), pickled=pickled)
    index = folder / (whole_name + INDEX)
    if not index.is_file():
        return WeightFiles()
    listed = read_index(index, name)
    shards = sorted(set(listed.values()))
    return WeightFiles(
        tuple(folder / shard for shard in shards if (folder / shard).is_file()),
        tuple(shard for shard in shards if not (folder / shard).is_file()),
        {tensor: folder / shard for tensor, shard in listed.items()},
        pickled,
    )


def _other_safetensors(folder: Path) -> WeightFiles:
    """Safetensors of other names, but for adapters; `consolidated` ones, which are the same weights once more where
    there are others, only where there are none."""
    files = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    files = [file for file in files if not file.name.startswith("adapter_")]
    return WeightFiles(tuple([file for file in files if not file.name.startswith("consolidated")] or files))


def _medusa(folder: Path) -> WeightFiles:
    file = folder / (MEDUSA + ".pt")
    return WeightFiles((file,), pickled=True) if file.is_file() else WeightFiles()
