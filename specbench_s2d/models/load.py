"""`load_model`: a name becomes a `LanguageModel`, lean where the lean forward computes the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from specbench_s2d.errors import ModelError, UserError, first_line
from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.checkpoint import Checkpoint, eos_ids, find_checkpoint, lacks, tensor_reader
from specbench_s2d.models.exits import config_exits
from specbench_s2d.models.hf import TransformersModel, context_of
from specbench_s2d.models.llama import LlamaModel, why_not_lean
from specbench_s2d.models.passes.choose import check_engine, choose_engine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def default_device() -> str:
    """`cuda` if there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> str:
    """`float32` on a CPU, `bfloat16` elsewhere."""
    return "float32" if device == "cpu" else "bfloat16"


def check_device(device: str) -> torch.device:
    """The torch device by its name; raises `UserError` when it is not there."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UserError(f"--device {device}: not a device; give cpu, cuda or cuda:N.")
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(device.partition(":")[2] or 0)
        if index >= count:
            raise UserError(f"--device {device}: torch sees {count} CUDA devices here; use --device cpu.")
    return torch.device(device)


def load_model(
    name: str,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    lean: bool = True,
    engine: str | None = None,
) -> LanguageModel:
    """Load a demo model, a folder or a hub id (`owner/name[@revision]`) for inference.

    `device` is `cuda` if there is one, else `cpu`; `dtype` is `float32` on a CPU, `bfloat16` on a GPU.
    Llama-family checkpoints run through the lean forward unless `lean` is False; all others through transformers'.
    `engine`: `eager`, `graphs` (passes prepared before timing), or the fastest that model and machine allow.
    Raises `ModelError` (or `UnknownNameError`) in one line when that cannot be done.
    """
    place = check_device(device or default_device())
    chosen = dtype or default_dtype(place.type)
    if chosen not in DTYPES:
        raise UserError(f"--dtype {chosen}: give one of {', '.join(DTYPES)}.")
    check_engine(engine)
    found = find_checkpoint(name, revision)
    config, tokenizer = read_config(found, trust_remote_code), _read_tokenizer(found, trust_remote_code)
    reason = why_not_lean(config) if lean else "as asked"
    identity = Identity(
        name=found.name,
        source=name if found.revision else found.name,
        revision=found.revision,
        weights_sha256=found.sha256(),
        architecture=str(config.model_type),
        forward="lean" if reason is None else f"transformers ({reason})",
        facts={"layers": config.get_text_config().num_hidden_layers, "width": config.get_text_config().hidden_size},
    )
    ends = eos_ids(found, tokenizer)
    if reason is None:
        reader = tensor_reader(found, place, DTYPES[chosen])
        chosen_engine = choose_engine(engine, found.name, config, place, DTYPES[chosen])
        return LlamaModel(identity, config, reader, tokenizer, ends, place, DTYPES[chosen], chosen_engine)
    if engine == "graphs":
        raise ModelError(f"{found.name} --engine graphs: it runs through transformers ({reason}); use --engine eager.")
    model = _read_whole(found, place, DTYPES[chosen], trust_remote_code)
    return TransformersModel(identity, model, tokenizer, ends)


class Numbering(Protocol):
    """Whatever has a name, a tokenizer, and a number of ids: a loaded model, or the outline of one."""

    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...


@dataclass(frozen=True)
class Outline:
    """What a checkpoint says of itself before its weights are loaded: enough to lay out prompts and to pair models."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int
    context: int
    depth: int
    exits: tuple[int, ...]
    has_layer_ranges: bool


def read_outline(name: str) -> Outline:
    """The outline of a model; raises `ModelError` when its config or tokenizer cannot be read."""
    found = find_checkpoint(name)
    config = read_config(found)
    text = config.get_text_config()
    return Outline(
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
    found = Checkpoint(folder.name, folder) if (folder / "tokenizer.json").is_file() else find_checkpoint(name)
    return _read_tokenizer(found, False)


def read_config(found: Checkpoint, trust: bool = False) -> Any:
    """transformers' config of a checkpoint; raises `ModelError` when it cannot be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(found.folder), trust_remote_code=trust)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{found.name}: its config cannot be read ({first_line(error)[:200]}).") from error


def _read_tokenizer(found: Checkpoint, trust: bool) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(found.folder), trust_remote_code=trust)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{found.name}: its tokenizer cannot be read ({first_line(error)[:200]}).") from error


def hide_progress_bars() -> None:
    """Keep transformers' own progress bars out of ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _read_whole(found: Checkpoint, place: torch.device, dtype: torch.dtype, trust: bool) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    hide_progress_bars()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(found.folder), dtype=dtype, use_safetensors=True, trust_remote_code=trust, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{found.name}: transformers cannot load it ({first_line(error)[:200]}).") from error
    model, info = loaded
    if info["missing_keys"]:  # transformers would go on with random numbers in their place
        raise lacks(found, sorted(info["missing_keys"])[0])
    return model.to(place)


def check_pair(target: Numbering, draft: Numbering) -> None:
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
