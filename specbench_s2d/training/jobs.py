"""The `train` commands as functions: prepare the data once, make a start, train it, save it with its card."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.training.card import FACTS, data_summary, training_facts, write_card
from specbench_s2d.training.data import Chat, Encoded, encode_chats, held_out_by_suite, pack, read_chats
from specbench_s2d.training.surgery import cut_layers, grow_layers
from specbench_s2d.training.trainer import CHECKPOINT, LOG, TrainSpec, Watcher, new_model, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HELD_OUT_PER_SUITE = 40


@dataclass(frozen=True)
class Shape:
    """The size of a model made from nothing."""

    layers: int
    width: int = 192
    heads: int = 3
    kv_heads: int = 1
    feed_forward: int = 512
    context: int = 4096


@dataclass(frozen=True)
class Start:
    """What a training run starts from.

    `new`: `shape`, random. `cut`: the first `layers` layers of `source`. `grow`: `source` deepened to `layers`.
    `source` is a folder or a hub id; `continue` takes it whole.
    """

    kind: Literal["new", "cut", "grow", "continue"]
    source: str = ""
    layers: int = 0
    shape: Shape = field(default_factory=lambda: Shape(layers=8))

    def describe(self) -> str:
        name = Path(self.source).name if Path(self.source).is_dir() else self.source
        return {
            "new": f"random weights, {self.shape.layers} layers",
            "cut": f"the first {self.layers} layers of {name}",
            "grow": f"{name}, deepened to {self.layers} layers that at first compute the same",
            "continue": name,
        }[self.kind]


class Corpus:
    """A chat corpus read once and encoded once per tokenizer."""

    def __init__(self, sources: list[str]) -> None:
        chats = read_chats(sources)
        self.training = [chat for chat in chats if not chat.held_out]
        self.held_out = [chat for chat in chats if chat.held_out]
        self._encoded: dict[str, tuple[list[Encoded], list[Encoded]]] = {}

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Encoded], list[Encoded]]:
        """(training, held-out) chats as ids under the tokenizer's own template, or Vicuna's."""
        key = str(tokenizer.name_or_path)
        if key not in self._encoded:
            template = ChatTemplate.choose(tokenizer)
            self._encoded[key] = (encode_chats(self.training, template), encode_chats(self.held_out, template))
        return self._encoded[key]

    def all_chats(self) -> list[Chat]:
        return self.training


def make_start(start: Start, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """The model that training starts from, in float32."""
    from transformers import AutoModelForCausalLM

    if start.kind == "new":
        s = start.shape
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        assert isinstance(bos, int) and isinstance(eos, int)
        return new_model(
            len(tokenizer), s.width, s.layers, s.heads, s.kv_heads, s.feed_forward, s.context, seed, bos, eos
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(start.source, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise UserError(f"{start.source}: not a checkpoint that can be trained on ({str(error).splitlines()[0]}).") from error
    if not hasattr(getattr(model, "model", None), "layers"):
        raise UserError(f"{start.source}: layers can be cut only from Llama-family checkpoints.")
    if start.kind == "cut":
        return cut_layers(model, start.layers)
    return grow_layers(model, start.layers) if start.kind == "grow" else model


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no tokenizer there ({str(error).splitlines()[0]}); `train tokenizer` makes one.") from error
    assert hasattr(tokenizer, "encode")
    return tokenizer  # type: ignore[no-any-return]


def train_model(
    name: str,
    start: Start,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    spec: TrainSpec,
    out: Path,
    command: str,
    watch: Watcher = lambda progress: None,
    finish: Callable[[PreTrainedModel], None] = lambda model: None,
) -> dict[str, Any]:
    """Train, then write `out` as a Hugging Face folder (bf16 safetensors, tokenizer, card); returns the facts.

    Work in progress lives in `out.work`; the finished folder appears whole. Raises `RunFolderError` when `out`
    already holds a model.
    """
    if (out / "config.json").exists():
        raise RunFolderError(f"{out} already holds a model; give another --out, or remove it to train anew.")
    work = out.with_name(out.name + ".work")
    training, held_out = corpus.encode(tokenizer)
    model = make_start(start, tokenizer, spec.seed)
    packed = pack(training, spec.length, spec.loss_on == "answers", spec.seed)
    watched = held_out_by_suite(held_out, HELD_OUT_PER_SUITE, spec.length)
    rows = train(model, packed, watched, spec, work, watch)
    finish(model)
    facts = training_facts(
        name, start.describe(), command, spec, data_summary(corpus.training, training), rows,
        _shape_of(model), _tokens_seen(start.source), _machine(spec.device),
    )
    _publish(model, tokenizer, facts, work, out)
    return facts


def _publish(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: dict[str, Any], work: Path, out: Path
) -> None:
    """Fill `out.partial`, then rename it: a folder that exists is complete."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(str(partial), safe_serialization=True)  # type: ignore[arg-type]
    tokenizer.save_pretrained(str(partial))
    write_card(partial, facts)
    shutil.copy(work / LOG, partial / LOG)
    if out.exists():
        out.rmdir()  # only an empty folder can stand there
    os.replace(partial, out)
    (work / CHECKPOINT).unlink()
    shutil.rmtree(work)


def _shape_of(model: PreTrainedModel) -> dict[str, Any]:
    config = model.config
    return {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "feed_forward": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "context": config.max_position_embeddings,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _tokens_seen(source: str) -> int:
    """Tokens that the source of a cut or a growth was itself trained on, as far as its card says."""
    import json

    facts = Path(source) / FACTS
    if not source or not facts.is_file():
        return 0
    known = json.loads(facts.read_text(encoding="utf-8"))
    return int(known["tokens"]) + int(known["tokens_inherited"])


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads ({platform.machine()})"
