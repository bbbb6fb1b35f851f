"""A name becomes a model's files, config, tokenizer and hash, once: what a plan checked is what a run loads."""

from __future__ import annotations

import copy
import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbench_s2d.errors import ModelError, UnknownNameError, in_one_line
from specbench_s2d.models.adapter import Adapter
from specbench_s2d.models.config_check import FILE, built, check_fields, token_ids
from specbench_s2d.models.demo import demo_names
from specbench_s2d.models.exits import CONFIG_KEY, config_exits
from specbench_s2d.models.file_hash import files_sha256
from specbench_s2d.models.gguf import is_gguf, resolve_gguf
from specbench_s2d.models.heads.shape import MEDUSA, HeadShape
from specbench_s2d.models.hf import context_of
from specbench_s2d.models.hub import fetch_snapshot
from specbench_s2d.models.llama import why_not_lean
from specbench_s2d.models.model_files import check_folder, read_object, read_tokenizer
from specbench_s2d.models.named import (
    HUB,
    NAMED,
    WeightsSource,
    full_name,
    known_models,
    require_pulled,
    shipped_drafts,
)
from specbench_s2d.models.quiet import quiet
from specbench_s2d.models.shapes import PREFIX, TOKENIZER, Shape
from specbench_s2d.models.tied_head import differs
from specbench_s2d.models.token_ranking import Ranking, RankingById, stored_ranking
from specbench_s2d.models.vocabulary import named_ids
from specbench_s2d.models.weight_files import WeightFiles, find_weights, not_usable
from specbench_s2d.resources import demo_folder, drafts_folder
from specbench_s2d.spelling import near_names

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# A tokenizer complete; sentencepiece's model; OPT's and GPT-2's words, beside their merges.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_FILES = (*_WEIGHTS, ".json", ".model", ".txt", ".jinja", ".toml", ".jsonl", ".onnx", ".zip", ".gz", ".tar")
"""What files end in that people give in place of a model's folder."""


@dataclass(frozen=True)
class ResolvedModel:
    """A Hugging Face checkpoint before its weights are loaded: enough to lay out prompts, pair models and plan memory.

    `name` is what records call it. `revision`: the hub's commit, None for a folder. With a `shape` the folder gives
    the tokenizer alone, and the weights are random. With an `adapter` weights and tokenizer are those of its base.
    `source`: where the weights of a named model or of a GGUF file came from. Everything else is read when first asked
    for, and then kept; what cannot be read raises `ModelError`.
    """

    name: str
    folder: Path
    revision: str | None = None
    shape: Shape | None = None
    trust_remote_code: bool = False
    source: WeightsSource | None = None

    @cached_property
    def weights(self) -> WeightFiles:
        """What the folder holds of weights; of an adapter, its base's."""
        if self.base:
            return self.base.weights
        return WeightFiles() if self.shape else find_weights(self.folder, self.name)

    @cached_property
    def adapter(self) -> Adapter | None:
        """The LoRA adapter that the folder holds in place of weights."""
        return None if self.shape else Adapter.find(self.folder, self.name)

    @cached_property
    def base(self) -> ResolvedModel | None:
        """The model that the adapter is for; raises `ModelError` for one that is an adapter itself."""
        if self.adapter is None:
            return None
        base = _find(self.adapter.base)
        if base.adapter is not None:  # which might be this one again
            raise ModelError(f"{self.name}: its base {base.name} is an adapter too; give the model that it is for.")
        return _checked(base)

    @cached_property
    def head_shape(self) -> HeadShape | None:
        """The draft head that the folder holds in place of a model; a folder with a tokenizer is none, but for one of
        Medusa's.

        Raises `ModelError` for a head whose tensors are not those that its config describes.
        """
        if self.shape or self.adapter:
            return None
        if not self.weights.of_medusa and any((self.folder / file).exists() for file in _TOKENIZER_FILES):
            return None
        found = HeadShape.find(self.weights, self.name, self.fields)
        if found is not None and found.kind != MEDUSA:  # whose config is made of its tensors
            found.check(self.config, self.name)
        return found

    @property
    def random_weights(self) -> bool:
        return self.shape is not None

    @property
    def ranking(self) -> Ranking | None:
        """What a small vocabulary of it is chosen by; None where nothing is stored."""
        return RankingById() if self.shape else stored_ranking(self.folder, self.name)

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields of config.json."""
        return self.shape.fields if self.shape else read_object(self.folder / FILE, self.name)

    @cached_property
    def config(self) -> Any:
        """transformers' config, its sizes checked, its head untied where the weights say so (`has_separate_head`)."""
        if not self.has_separate_head:
            return self.stated_config
        config = copy.deepcopy(self.stated_config)
        config.tie_word_embeddings = False
        return config

    @cached_property
    def has_separate_head(self) -> bool:
        """Whether a head is stored that differs from the embedding that config.json ties it to."""
        tied = getattr(self.stated_config, "tie_word_embeddings", False)
        return bool(tied and not self.shape and differs(self.weights, self.name))

    @cached_property
    def stated_config(self) -> Any:
        """transformers' config as config.json states it."""
        from transformers import AutoConfig

        if self.shape:
            return self.shape.config()
        check_fields(self.fields, self.name)
        if self.weights.of_medusa and self.head_shape and self.head_shape.kind == MEDUSA:
            return self.head_shape.config(self.fields)
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        with quiet():  # of special tokens outside the vocabulary: `remarks` says so of those that matter
            return built(lambda: AutoConfig.from_pretrained(str(self.folder), **options), self.name)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        if self.base:
            return self.base.tokenizer
        try:
            tokenizer: PreTrainedTokenizerBase = read_tokenizer(
                str(self.folder), trust_remote_code=self.trust_remote_code
            )
            return tokenizer
        except Exception as error:
            if (self.folder / FILE).is_file():
                _ = self.stated_config  # which tokenizers are chosen by, and which says itself what is wrong with it
            reason = in_one_line(error, whole=True)
            if "tiktoken" in reason:  # what transformers tries after sentencepiece has failed
                reason = "tokenizer.model is not sentencepiece's, or sentencepiece and protobuf are not installed"
            read = (file for pattern in ("tokenizer*", FILE) for file in sorted(self.folder.glob(pattern)))
            found = ", ".join(file.name for file in read) or "no files of one"
            raise ModelError(f"{self.name}: its tokenizer ({found}) cannot be read ({reason}).") from error

    @cached_property
    def sha256(self) -> str:
        """Hash of all weight files, in the order of their names; the hub's own hash where it is known."""
        if self.shape:
            return self.shape.sha256()
        digest = hashlib.sha256()
        files = self.weights.files
        if self.base and self.adapter:
            digest.update(self.base.sha256.encode())
            files = (self.adapter.file,)
        blobs = [file.resolve() for file in files]
        unknown = [blob for blob in blobs if not re.fullmatch(r"[0-9a-f]{64}", blob.name)]
        found = dict(zip(unknown, files_sha256(unknown), strict=True))
        for blob in blobs:
            digest.update(found.get(blob) or blob.name.encode())
        return digest.hexdigest()

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end an answer: those of `stated_eos_ids` that the model gives logits of."""
        return self.stated_eos_ids - set(self.eos_ids_outside)

    @property
    def eos_ids_outside(self) -> tuple[int, ...]:
        """Those of `stated_eos_ids` that the model gives no logits of, ascending."""
        return tuple(sorted(token for token in self.stated_eos_ids if not 0 <= token < self.vocabulary))

    @cached_property
    def stated_eos_ids(self) -> frozenset[int]:
        """The tokenizer's EOS, and those of the generation config (Llama 3 has several)."""
        if self.base:
            return self.base.stated_eos_ids
        ids: set[int] = set()
        for file in ("config.json", "generation_config.json"):
            if (self.folder / file).is_file():
                ids.update(token_ids(read_object(self.folder / file, self.name), "eos_token_id", self.name, file))
        if isinstance(self.tokenizer.eos_token_id, int):
            ids.add(self.tokenizer.eos_token_id)
        return frozenset(ids)

    @property
    def width(self) -> int:
        """D: the hidden width."""
        return int(self.config.get_text_config().hidden_size)

    @cached_property
    def vocabulary(self) -> int:
        """Ids that the model gives logits of: the rows of its head, padding left out (`vocabulary.named_ids`)."""
        return self.rows if self.shape or self.head_shape else named_ids(self.tokenizer, self.rows)

    @property
    def rows(self) -> int:
        """Rows of the head, padding included; all of them are read."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def context(self) -> int:
        """The longest sequence, in tokens."""
        return context_of(self.config.get_text_config(), self.name)

    @property
    def depth(self) -> int:
        """Layers."""
        return self.head_shape.layers if self.head_shape else int(self.config.get_text_config().num_hidden_layers)

    @property
    def exits(self) -> tuple[int, ...]:
        """Layers at which a nested draft may be read; empty for other models."""
        return config_exits(self.name, self.config.get_text_config())

    @property
    def is_nested(self) -> bool:
        """Whether config.json names exits, which then may still be wrong ones."""
        return bool(self.fields.get(CONFIG_KEY))

    @property
    def has_layer_ranges(self) -> bool:
        """Whether it runs through the lean forward, of which layers can be run on their own."""
        return why_not_lean(self.config) is None


class ResolvedModels(dict[str, ResolvedModel]):
    """Models by what a person called them, each resolved when it is first asked for."""

    def __missing__(self, name: str) -> ResolvedModel:
        self[name] = found = resolve_model(name)
        return found


def resolve_model(name: str, revision: str | None = None, trust_remote_code: bool = False) -> ResolvedModel:
    """Find a demo name, a draft that ships, `shape:NAME`, a folder, a named model that was pulled, a GGUF file
    (a path or `owner/name:file.gguf`), or a hub id (`owner/name` or `owner/name@revision`).

    Raises `UnknownNameError` for none of these, `ModelError` when the hub refuses, a named model was not pulled,
    weights lack, or a file is damaged.
    """
    return _checked(_find(name, revision, trust_remote_code))


def _find(name: str, revision: str | None = None, trust_remote_code: bool = False) -> ResolvedModel:
    """As `resolve_model`, whatever the folder holds."""
    name = full_name(name)
    if name in demo_names():
        return ResolvedModel(name, demo_folder() / name, trust_remote_code=trust_remote_code)
    if name in shipped_drafts():
        return ResolvedModel(name, drafts_folder() / name, trust_remote_code=trust_remote_code)
    if name.startswith(PREFIX):
        shape = Shape.find(name)
        return ResolvedModel(shape.name, demo_folder() / TOKENIZER, shape=shape)
    if name and Path(name).is_dir():
        return ResolvedModel(Path(os.path.abspath(name)).name, Path(name), trust_remote_code=trust_remote_code)
    if model := NAMED.get(name):
        pulled = require_pulled(model)
        commit = pulled.source.version if pulled.source.kind == HUB else None
        return ResolvedModel(model.called, pulled.folder, commit, source=pulled.source)
    if is_gguf(name):
        called, pulled = resolve_gguf(name, revision)
        return ResolvedModel(called, pulled.folder, source=pulled.source)
    check_path(name)
    hub_id, _, given = name.partition("@")
    if _HUB_ID.fullmatch(hub_id):
        folder = fetch_snapshot(hub_id, revision or given or None)
        return ResolvedModel(hub_id, folder, folder.name, trust_remote_code=trust_remote_code)
    raise UnknownNameError.of(
        "model", name, known_models(), "Or shape:NAME, a folder, a GGUF file, or a hub id owner/name."
    )


def check_path(name: str) -> None:
    """Raise `ModelError` for a file that no model is, and for what is written as a path and is not there."""
    path = Path(name)
    if path.is_file():
        what = "a file of weights" if path.suffix in _WEIGHTS else "a file, and no GGUF file"
        raise ModelError(f"{name}: is {what}; give the folder of the model, which has its config.json: {path.parent}.")
    named = name.startswith((".", "/", "~")) or name.partition("@")[0].count("/") > 1 or name.endswith("/")
    is_file = path.suffix.lower() in _FILES
    if named or is_file:
        there = path.parent.is_dir()
        hint = near_names(path.name, [one.name for one in path.parent.iterdir()]) if there else ""
        hint = hint if there else f" There is no folder {path.parent} either."
        what = "file; a model is given by its folder" if is_file else "folder; give a model's folder"
        raise ModelError(f"{name}: no such {what}, a GGUF file, a name, or a hub id owner/name.{hint}")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a demo model, of a folder (weights are not needed) or of a hub id.

    Raises `ModelError` (or `UnknownNameError`) in one line when it cannot be read.
    """
    folder = Path(name)
    if folder.is_dir():
        check_folder(folder, folder.name)
    alone = any((folder / file).is_file() for file in _TOKENIZER_FILES)
    return (ResolvedModel(folder.name, folder) if alone else resolve_model(name)).tokenizer


def _checked(model: ResolvedModel) -> ResolvedModel:
    """The model; raises `ModelError` where its folder lacks files, or holds some that cannot be used."""
    if model.shape:
        return model
    check_folder(model.folder, model.name)
    if not (model.folder / FILE).is_file():
        raise ModelError(
            f"{model.name}: {model.folder} holds no config.json; give a model folder, or a GGUF file by its name."
        )
    if model.base:
        _check_adapter(model, model.base)
        return model
    weights = model.weights
    if weights.missing:
        shown = ", ".join(weights.missing[:3]) + (" …" if len(weights.missing) > 3 else "")
        raise ModelError(
            f"{model.name}: {shown}, named in its index of weights, not in {model.folder}"
            f"{not_usable(model.folder, weights.missing)}; fetch it again."
        )
    if not weights.files:
        ends = (".bin", ".pt", ".pth", ".gguf", ".safetensors")
        other = [f.name for f in sorted(model.folder.iterdir()) if f.suffix in ends]
        saw = f" (only {', '.join(other[:3])}{not_usable(model.folder, other)})" if other else ""
        raise ModelError(
            f"{model.name}: no weights{saw}: neither .safetensors nor pytorch_model.bin or its shards; convert them "
            "with transformers' save_pretrained, or name a hub revision that has them, as owner/name@refs/pr/N."
        )
    return model


def _check_adapter(model: ResolvedModel, base: ResolvedModel) -> None:
    """Raise `ModelError` for a base that cannot be the adapter's."""
    mine, theirs = model.config, base.config
    names = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size")
    other = [name for name in names if getattr(mine, name, None) != getattr(theirs, name, None)]
    if other:
        raise ModelError(
            f"{model.name}: it was trained over a model of another {', '.join(other)} than {base.name}; "
            "give its own base."
        )
    if model.depth > base.depth:
        raise ModelError(f"{model.name}: it has {model.depth} layers, its base {base.name} {base.depth}.")
