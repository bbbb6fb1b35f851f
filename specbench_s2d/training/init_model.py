"""The model that a training run starts from: new, or a trained one, cut, deepened or unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from specbench_s2d.errors import ModelError, UnknownNameError, UserError, in_one_line
from specbench_s2d.models.demo import demo_names
from specbench_s2d.models.load import read_module
from specbench_s2d.models.model_files import check_folder, read_tokenizer
from specbench_s2d.models.named import NAMED, full_name
from specbench_s2d.models.resolve import check_path, resolve_model
from specbench_s2d.resources import demo_folder
from specbench_s2d.training.surgery import cut_layers, grow_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class ModelSize:
    """The size of a new model."""

    layers: int = 8
    width: int = 192
    heads: int = 3
    kv_heads: int = 1
    feed_forward: int = 512
    context: int = 4096


@dataclass(frozen=True)
class ModelSource:
    """What a training run starts from.

    `kind`: `new`, random weights of `size`; `cut`, the first `layers` layers of `source`; `grow`, `source` deepened to
    `layers` layers; `continue`, `source` unchanged. `source`: a folder, a hub id, or a member of the demo family.
    """

    kind: Literal["new", "cut", "grow", "continue"]
    source: str = ""
    layers: int = 0
    size: ModelSize = field(default_factory=ModelSize)

    def describe(self) -> str:
        name = Path(self.source).name if Path(self.source).is_dir() else self.source
        return {
            "new": f"random weights, {self.size.layers} layer{'s' * (self.size.layers != 1)}",
            "cut": f"the first {f'{self.layers} layers' if self.layers != 1 else 'layer'} of {name}",
            "grow": f"{name}, deepened to {self.layers} layers that at first compute the same",
            "continue": name,
        }[self.kind]


def lm_source(size: dict[str, int | None], grow_from: str | None, continue_from: str | None) -> ModelSource:
    """The source that the flags of `train lm` ask for; raises `UserError` for flags that contradict each other.

    `size`: the fields of `ModelSize`, None where no flag was given.
    """
    given = {name: value for name, value in size.items() if value is not None}
    if grow_from and continue_from:
        raise UserError("--grow-from and --continue-from: give one of them.")
    allowed = {"layers"} if grow_from else set() if continue_from else set(size)
    for name in given.keys() - allowed:
        flag = name.replace("_", "-")
        raise UserError(f"--{flag} {given[name]}: a model that goes on from another keeps that one's {flag}.")
    if continue_from:
        return ModelSource("continue", continue_from)
    if grow_from:
        if "layers" not in given:
            raise UserError("--grow-from: give the depth to grow to, --layers N.")
        return ModelSource("grow", grow_from, given["layers"])
    if "width" in given:
        given.setdefault("heads", max(1, given["width"] // 64))
    return ModelSource("new", size=ModelSize(**given))


def resolve_source(name: str) -> str:
    """A folder or hub id unchanged; for the name of a demo model, or of a named model that was pulled, its folder.

    Raises `UnknownNameError` for an unknown demo model, `ModelError` for a missing folder.
    """
    if Path(name).is_dir():
        return name
    name = full_name(name)
    if name.startswith("demo-"):
        if (demo_folder() / name / "config.json").is_file():
            return str(demo_folder() / name)
        raise UnknownNameError.of("model", name, demo_names(), "Or give a folder, or a hub id.")
    if name in NAMED:
        return str(resolve_model(name).folder)
    check_path(name)
    return name


def init_model(source: ModelSource, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """The model that training starts from, in float32.

    Raises `ModelError` for a source that cannot be read, or whose vocabulary is smaller than the tokenizer's.
    """
    if source.kind == "new":
        return new_model(source.size, len(tokenizer), seed, tokenizer.bos_token_id, tokenizer.eos_token_id)
    model = load_source(source.source)
    vocabulary = int(model.config.vocab_size)
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"{source.source}: its vocabulary has {vocabulary} entries, the tokenizer {len(tokenizer)}; "
            "train with the tokenizer that the model was made with."
        )
    if source.kind == "cut":
        return cut_layers(model, source.layers)
    return grow_layers(model, source.layers) if source.kind == "grow" else model


def load_source(source: str) -> PreTrainedModel:
    """transformers' model of a folder, a demo model, a named model or a hub id, in float32; raises `ModelError`."""
    model: PreTrainedModel = read_module(resolve_model(resolve_source(source)), torch.device("cpu"), torch.float32)
    if not _is_llama_like(model):
        raise ModelError(f"{source}: training takes Llama-family checkpoints, and this is {type(model).__name__}.")
    return model


def _is_llama_like(model: PreTrainedModel) -> bool:
    layers = getattr(getattr(model, "model", None), "layers", None)
    if not isinstance(layers, torch.nn.ModuleList) or not len(layers) or not hasattr(model, "lm_head"):
        return False
    names = {name for name, _ in layers[0].named_modules()}
    return {"self_attn.o_proj", "mlp.down_proj"} <= names


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, a demo model or a hub id; raises `ModelError` where there is none."""
    from transformers import PreTrainedTokenizerBase

    try:
        found = resolve_source(source)
        if Path(found).is_dir():
            check_folder(Path(found), source)
        tokenizer = read_tokenizer(found)
    except UserError:
        raise
    except Exception as error:
        raise ModelError(
            f"{source}: no tokenizer there ({in_one_line(error, whole=True)}); `train tokenizer` makes one."
        ) from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def new_model(size: ModelSize, vocabulary: int, seed: int, bos: int | None, eos: int | None) -> PreTrainedModel:
    """A new Llama with tied embeddings and matrices of standard deviation 0.02; raises `UserError` for an impossible
    size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    width, heads, kv_heads = size.width, size.heads, size.kv_heads
    if width % heads or heads % kv_heads or width // heads % 2:
        raise UserError(
            f"--width {width} --heads {heads} --kv-heads {kv_heads}: the width must be an even multiple of the heads, "
            "and the heads a multiple of the key-value heads."
        )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=size.context,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
    )
    model: PreTrainedModel = LlamaForCausalLM(config)
    return model
