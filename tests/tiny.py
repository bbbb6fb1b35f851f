"""Small random checkpoints, each with a tokenizer: for tests that need a model but not its answers."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.llama import LlamaModel
from specbench_s2d.models.token_ranking import write_ranking
from specbench_s2d.training.data import Chat
from specbench_s2d.training.surgery import cut_layers
from specbench_s2d.training.tokenizer import train_tokenizer

CONTEXT = 4096
_SENTENCES = (
    "Translate German to English: the old bridge over the river was built of stone.",
    "Summarize: the council met on Monday and agreed to repair the road before winter.",
    "What is the capital of France? The capital of France is Paris.",
    "Tom has 12 apples and gives 5 of them to Anna. How many apples does Tom have left?",
    "Write a short letter to a friend about the weather, and keep it simple.",
)


def write_tiny_family(folder: Path) -> Path:
    """`tiny-target`, `tiny-draft` (its first layers: right now and then), `tiny-nested` (the same with exits 1, 2,
    3), `tiny-deep` (eight layers, as EAGLE-3's heads want them), `tiny-other` (another tokenizer). The drafts have
    rankings, in which every third id comes first."""
    tokenizer, other_tokenizer = _tokenizer(_SENTENCES, 320), _tokenizer(_SENTENCES[:2], 288)
    target = _random_llama(tokenizer, layers=4, seed=0)
    _save(target, tokenizer, folder / "tiny-target")
    draft = cut_layers(target, 3)
    _save(draft, tokenizer, folder / "tiny-draft")
    draft.config.specbench_exits = [1, 2, 3]
    _save(draft, tokenizer, folder / "tiny-nested")
    for name in ("tiny-draft", "tiny-nested"):
        write_ranking(folder / name, [2 - i % 3 for i in range(len(tokenizer))], {})
    _save(_random_llama(tokenizer, layers=8, seed=2), tokenizer, folder / "tiny-deep")
    _save(_random_llama(other_tokenizer, layers=1, seed=1), other_tokenizer, folder / "tiny-other")
    return folder


def write_padded(model: Path, out: Path, rows: int) -> Path:
    """A copy of a tiny model with `rows` more rows of embedding and head than its tokenizer has ids: padding, whose
    logits are large, so that they would be emitted."""
    shutil.copytree(model, out)
    weights = load_file(out / "model.safetensors")
    torch.manual_seed(rows)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        table_VD = weights[name]
        weights[name] = torch.cat((table_VD, 3 * table_VD.std() * torch.randn(rows, table_VD.shape[1])))
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config["vocab_size"] += rows
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return out


def write_tiny_opt(folder: Path) -> Path:
    """`tiny-opt` and `tiny-opt-draft` (its first layers): another family with a tokenizer of its own, which carries no
    chat template, as base models do not."""
    tokenizer = _tokenizer(_SENTENCES[1:], 300)
    tokenizer.chat_template = None
    torch.manual_seed(3)
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        word_embed_proj_dim=16,
        ffn_dim=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=512,
        init_std=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    target = OPTForCausalLM(config)
    draft = OPTForCausalLM(OPTConfig(**{**config.to_dict(), "num_hidden_layers": 2}))
    draft.load_state_dict(target.state_dict(), strict=False)
    _save(target, tokenizer, folder / "tiny-opt")
    _save(draft, tokenizer, folder / "tiny-opt-draft")
    return folder


def _tokenizer(sentences: tuple[str, ...], vocabulary: int) -> PreTrainedTokenizerFast:
    chats = [Chat("qa", [{"role": "user", "content": text}]) for text in sentences]
    return train_tokenizer(chats, vocabulary, CONTEXT)


def _random_llama(tokenizer: PreTrainedTokenizerFast, layers: int, seed: int) -> LlamaForCausalLM:
    """Width 32, with weights large enough that what it writes depends on what it reads; EOS is possible and rare."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # a last layer that says little: a draft without it agrees about half of the time
        for projection in (model.model.layers[-1].self_attn.o_proj, model.model.layers[-1].mlp.down_proj):
            projection.weight.mul_(0.5)
    return model


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    model.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))


def random_nested(seed: int) -> LanguageModel:
    """A random Llama of 3 to 6 layers with two to four exits, in memory, through the lean forward."""
    coin = random.Random(seed)
    layers = coin.randint(3, 6)
    exits = sorted({layers, *coin.sample(range(1, layers), coin.randint(1, 2)), coin.randint(1, layers)})
    return _lean(f"nested-{seed}", *_random_weights(seed, layers, 23), exits)


def random_pair(seed: int, vocabulary: int = 19) -> tuple[LanguageModel, LanguageModel]:
    """A random target of 2 to 4 layers, and as its draft the same without the last: right now and then."""
    layers = random.Random(seed).randint(2, 4)
    config, state = _random_weights(seed, layers, vocabulary)
    state["lm_head.weight"] *= 3  # sure enough of some tokens that the two now and then disagree by much
    shorter = LlamaConfig(**{**config.to_dict(), "num_hidden_layers": layers - 1})
    return _lean(f"target-{seed}", config, state, ()), _lean(f"draft-{seed}", shorter, state, ())


def _random_weights(seed: int, layers: int, vocabulary: int) -> tuple[LlamaConfig, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.35,
    )
    return config, LlamaForCausalLM(config).state_dict()


def _lean(name: str, config: LlamaConfig, state: dict[str, torch.Tensor], exits: Sequence[int]) -> LanguageModel:
    config.specbench_exits = list(exits)
    tokenizer: Any = SimpleNamespace(get_vocab=lambda: {str(i): i for i in range(config.vocab_size)})
    return LlamaModel(
        Identity(name=name),
        config,
        lambda tensor: state[tensor],
        tokenizer,
        frozenset(),
        torch.device("cpu"),
        torch.float32,
    )
