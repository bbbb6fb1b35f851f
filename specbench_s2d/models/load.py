"""`load_model`: a name becomes a `LanguageModel`, lean where the lean forward computes the same."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from specbench_s2d.errors import ModelError, first_line
from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.checkpoint import Checkpoint, eos_ids, find_checkpoint, lacks, tensor_reader
from specbench_s2d.models.devices import (
    SPREAD,
    check_device,
    default_device,
    find_dtype,
    free_by_device,
)
from specbench_s2d.models.engines.choose import MakeEngine, check_engine, choose_engine
from specbench_s2d.models.exits import CONFIG_KEY, config_exits
from specbench_s2d.models.hf import TransformersModel, context_of
from specbench_s2d.models.llama import LlamaModel, quantisation, why_not_lean
from specbench_s2d.models.memory import plan_memory
from specbench_s2d.models.pickled import refusal
from specbench_s2d.models.placement import check_fits, max_memory
from specbench_s2d.models.shapes import random_weights
from specbench_s2d.models.weights import Weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A tokenizer whole; sentencepiece's model; OPT's and GPT-2's words, beside their merges.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def load_model(
    name: str,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    lean: bool = True,
    engine: str | MakeEngine | None = None,
    limits: Mapping[int, int] | None = None,
) -> LanguageModel:
    """Load a demo model, a shape (`shape:NAME`), a folder or a hub id (`owner/name[@revision]`) for inference.

    `device` is `cuda` if there is one, else `cpu`; `auto` spreads the weights over all visible GPUs. `dtype` is
    `float32` on a CPU, `bfloat16` on a GPU. Llama-family checkpoints run through the lean forward unless `lean` is
    False or they are spread; all others through transformers'.
    `engine`: `eager`, `native` (CPU), `cuda-graphs` (GPU), `graphs` for either of these two; by default the fastest
    that model and machine allow.
    `limits`: of `auto`, bytes of weights by GPU at most (`placement.max_memory`); by default what is free there,
    less what passes work in.
    Raises `ModelError` (or `UnknownNameError`) in one line when that cannot be done, for want of memory say.
    """
    device = device or default_device()
    place = check_device(device)
    chosen = find_dtype(dtype, device)
    check_engine(engine, place, chosen)
    found = find_checkpoint(name, revision)
    check_spread(found, device)
    config, tokenizer = read_config(found, trust_remote_code), _read_tokenizer(found, trust_remote_code)
    reason = _why_whole(found, config, device, lean)
    plans, free = [plan_memory(found, config, chosen, on_host=place.type == "cpu")], free_by_device(device)
    check_fits(plans, device, free)
    identity = Identity(
        name=found.name,
        source=name if found.revision else found.name,
        revision=found.revision,
        weights_sha256=found.sha256(),
        architecture=str(config.model_type),
        forward="lean" if reason is None else f"transformers ({reason})",
        random_weights=found.random_weights,
    )
    ends = eos_ids(found, tokenizer)
    if reason is None:
        reader = _reader(found, config, place, chosen)
        chosen_engine = choose_engine(engine, found.name, config, place, chosen)
        return LlamaModel(identity, config, reader, tokenizer, ends, place, chosen, chosen_engine)
    if engine not in (None, "eager"):
        raise ModelError(
            f"{found.name} --engine {engine}: it runs through transformers ({reason}); use --engine eager."
        )
    if device == SPREAD:
        model = read_whole(found, place, chosen, trust_remote_code, "sequential", limits or max_memory(plans, free))
    else:
        model = read_whole(found, place, chosen, trust_remote_code, str(place) if quantisation(config) else None)
    return TransformersModel(identity, model, tokenizer, ends)


def check_spread(found: Checkpoint, device: str) -> None:
    """Raise `ModelError` where a model needs the lean forward and `device` is `auto`, which is transformers' own."""
    if device == SPREAD and (found.shape or found.fields().get(CONFIG_KEY)):
        what = "a shape's weights are made" if found.shape else "a nested draft's layers run"
        raise ModelError(f"{found.name}: {what} on one device; give --device cuda or cuda:N in place of {SPREAD}.")


def _why_whole(found: Checkpoint, config: Any, device: str, lean: bool) -> str | None:
    """Why the model must go through transformers' own forward, or None; raises `ModelError` for a shape that must."""
    if device == SPREAD:
        return "device map"
    if not lean and found.shape:
        raise ModelError(f"{found.name}: a shape has no checkpoint for transformers to load; leave out lean=False.")
    return why_not_lean(config) if lean else "as asked"


def _reader(found: Checkpoint, config: Any, place: torch.device, dtype: torch.dtype) -> Weights:
    return random_weights(config, place, dtype) if found.shape else tensor_reader(found, place, dtype)


class HasVocabulary(Protocol):
    """Whatever has a name, a tokenizer, and a number of ids: a loaded model, or the outline of one."""

    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...


@dataclass(frozen=True)
class ModelInfo:
    """What a checkpoint says of itself before its weights are loaded: enough to lay out prompts and to pair models."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int
    context: int
    depth: int
    exits: tuple[int, ...]
    has_layer_ranges: bool


def read_model_info(name: str) -> ModelInfo:
    """The outline of a model; raises `ModelError` when its config or tokenizer cannot be read."""
    found = find_checkpoint(name)
    config = read_config(found)
    text = config.get_text_config()
    return ModelInfo(
        found.name,
        _read_tokenizer(found, False),
        text.vocab_size,
        context_of(text, found.name),
        text.num_hidden_layers,
        config_exits(found.name, text),
        why_not_lean(config) is None,
    )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a demo model, of a folder (weights are not needed) or of a hub id.

    Raises `ModelError` (or `UnknownNameError`) in one line when it cannot be read.
    """
    folder = Path(name)
    alone = any((folder / file).is_file() for file in _TOKENIZER_FILES)
    found = Checkpoint(folder.name, folder) if alone else find_checkpoint(name)
    return _read_tokenizer(found, False)


def read_config(found: Checkpoint, trust: bool = False) -> Any:
    """transformers' config of a checkpoint or a shape; raises `ModelError` when it cannot be read."""
    from transformers import AutoConfig

    if found.shape:
        return found.shape.config()
    try:
        return AutoConfig.from_pretrained(str(found.folder), trust_remote_code=trust)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{found.name}: its config cannot be read ({first_line(error)[:200]}).") from error


def _read_tokenizer(found: Checkpoint, trust: bool) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(found.folder), trust_remote_code=trust)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = first_line(error)[:200]
        if "tiktoken" in reason:  # what transformers tries after sentencepiece has failed
            reason = "tokenizer.model is not sentencepiece's, or the packages sentencepiece and protobuf are missing"
        raise ModelError(f"{found.name}: its tokenizer cannot be read ({reason}).") from error


def hide_progress_bars() -> None:
    """Keep transformers' own progress bars out of ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def read_whole(
    found: Checkpoint,
    place: torch.device,
    dtype: torch.dtype,
    trust: bool,
    spread: str | dict[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
) -> Any:
    """transformers' own model on `place`, or laid out by `spread`, transformers' device map, within `limits` (bytes of
    weights by GPU); raises `ModelError`."""
    from transformers import AutoModelForCausalLM

    hide_progress_bars()
    options: dict[str, Any] = {} if spread is None else {"device_map": spread}
    if limits:
        options["max_memory"] = dict(limits)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(found.folder),
            dtype=dtype,
            use_safetensors=not found.weights.pickled,
            weights_only=True,  # of .bin weights: tensors alone, whatever else the pickle holds
            trust_remote_code=trust,
            output_loading_info=True,
            **options,
        )
    except ImportError as error:
        raise ModelError(
            f"{found.name}: a package that transformers needs for it is missing ({_in_one_line(error)}); install that."
        ) from error
    except pickle.UnpicklingError as error:
        raise refusal(found.name, "one of its .bin files", error) from error
    except Exception as error:  # damaged weights surface as zip, struct, index, end-of-file and many other errors
        raise ModelError(f"{found.name}: transformers cannot load it ({first_line(error)[:200]}).") from error
    model, info = loaded
    if info["missing_keys"]:  # transformers would go on with random numbers in their place
        raise lacks(found, sorted(info["missing_keys"])[0])
    if spread is None:
        return model.to(place)
    _refuse_offloading(found, model)
    return model


def _in_one_line(error: ImportError) -> str:
    return " ".join(str(error).split())[:200]


def _refuse_offloading(found: Checkpoint, model: Any) -> None:
    """A layer that waits on the disk or in host memory would be copied over at every pass, and that be timed."""
    places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}
    if places & {"disk"} or ("cpu" in places and len(places) > 1):
        raise ModelError(
            f"{found.name}: the GPUs cannot hold it, and transformers would keep a part off them; give more GPUs, a "
            "smaller model, or a quantised one."
        )


def check_pair(target: HasVocabulary, draft: HasVocabulary) -> None:
    """A draft proposes ids, so both must mean the same by them; raises `ModelError` naming both otherwise."""
    advice = "pick a draft of the target's family"
    if target.vocabulary != draft.vocabulary:
        raise ModelError(
            f"{target.name} has a vocabulary of {target.vocabulary:,} ids and draft {draft.name} one of "
            f"{draft.vocabulary:,}: token ids must mean the same in both; {advice}."
        )
    if target.tokenizer.get_vocab() != draft.tokenizer.get_vocab():
        raise ModelError(
            f"{target.name} and draft {draft.name} number their {target.vocabulary:,} tokens differently: token ids "
            f"must mean the same in both; {advice}."
        )
