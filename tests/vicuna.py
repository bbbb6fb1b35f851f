"""A tiny Vicuna as its line is published: `.bin` weights, whole or in shards, and a tokenizer.model alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

VOCABULARY = 400
State = dict[str, Tensor]
Save = Callable[[State, Path], None]
TEXTS = (
    "A chat between a curious user and an artificial intelligence assistant. USER: Hi ASSISTANT: Hello",
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    "Tom has 12 apples and gives 5 of them to Anna. How many apples does Tom have left?",
)


def write_vicuna(folder: Path, save: Save, seed: int = 0, layers: int = 2) -> Path:
    """A random Llama of two layers, its weights written by `save`, with a tokenizer like that of Vicuna v1.5."""
    folder.mkdir(parents=True)
    write_sentencepiece(folder)
    model = tiny_llama(seed, layers)
    model.config.save_pretrained(str(folder))
    GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0).save_pretrained(str(folder))
    save({name: tensor.detach().clone() for name, tensor in model.state_dict().items()}, folder)
    return folder


def tiny_llama(seed: int = 0, layers: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def write_sentencepiece(folder: Path, texts: Iterable[str] = TEXTS, **settings: Any) -> None:
    """A byte-pair tokenizer.model with byte fallback and Llama's special ids, and Vicuna's two files beside it."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    special = {
        f"{kind}_token": {"content": text, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
        for kind, text in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"))
    }
    shared = {
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "legacy": False,
        "model_max_length": 4096,
        "pad_token": None,
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
    }
    config = {**shared, **{name: {"__type": "AddedToken", **token} for name, token in special.items()}, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")


def as_safetensors(state: State, folder: Path) -> None:
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def as_bin(state: State, folder: Path) -> None:
    torch.save(state, folder / "pytorch_model.bin")


def as_legacy_bin(state: State, folder: Path) -> None:
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def as_shards(state: State, folder: Path) -> None:
    _write_shards(state, folder, zipped=True)


def as_legacy_shards(state: State, folder: Path) -> None:
    _write_shards(state, folder, zipped=False)


def _write_shards(state: State, folder: Path, zipped: bool) -> None:
    """Two shards that part within a layer, with the rotary buffers that older checkpoints hold, and their index."""
    names = list(state)
    names.insert(8, "model.layers.0.self_attn.rotary_emb.inv_freq")
    held = {**state, names[8]: torch.ones(4)}
    half = names.index("model.layers.1.self_attn.o_proj.weight")
    index: dict[str, str] = {}
    for number, part in enumerate((names[:half], names[half:]), start=1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: held[name] for name in part}, folder / file, _use_new_zipfile_serialization=zipped)
        index |= dict.fromkeys(part, file)
    size = sum(tensor.nbytes for tensor in held.values())
    written = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(written), encoding="utf-8")


BIN_FORMS: dict[str, Save] = {
    "one file": as_bin,
    "shards": as_shards,
    "one file of the older format": as_legacy_bin,
    "shards of the older format": as_legacy_shards,
}
