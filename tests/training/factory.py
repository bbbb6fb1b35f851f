"""Tiny chats, tokenizers and models that the training tests share."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from specbench_s2d.models.chat import Message
from specbench_s2d.training.data import Chat, Encoded, Packed
from specbench_s2d.training.init_model import ModelSize, new_model
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.tokenizer import train_tokenizer

VOCABULARY = 300
CONTEXT = 64
SIZE = ModelSize(layers=2, width=16, heads=2, kv_heads=1, feed_forward=24, context=CONTEXT)


def chat(question: str, answer: str, suite: str = "qa") -> Chat:
    return Chat(suite, [Message(role="user", content=question), Message(role="assistant", content=answer)])


def sums(count: int) -> list[Chat]:
    """Chats about adding one; of 200 of them a few are held out, in both suites."""
    return [chat(f"add one to {i}", f"{i} and one is {i + 1}", "math" if i % 2 else "qa") for i in range(count)]


def write_chats(path: Path, chats: list[Chat]) -> Path:
    lines = [json.dumps({"suite": c.suite, "messages": c.messages}) for c in chats]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@cache
def tiny_tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(sums(200), VOCABULARY, CONTEXT)


def tiny_model(vocabulary: int = 20, layers: int = 2, seed: int = 0) -> PreTrainedModel:
    shape = ModelSize(layers=layers, width=16, heads=2, kv_heads=1, feed_forward=24, context=CONTEXT)
    return new_model(shape, vocabulary, seed, 0, 1)


def tiny_checkpoint(folder: Path) -> Path:
    """A random model of two layers in a folder, with its tokenizer."""
    tokenizer = tiny_tokenizer()
    model = new_model(SIZE, len(tokenizer), 0, tokenizer.bos_token_id, tokenizer.eos_token_id)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def random_rows(rows: int, length: int, vocabulary: int = 20, seed: int = 0) -> Packed:
    random = np.random.default_rng(seed)
    ids = random.integers(0, vocabulary, (rows, length + 1)).astype(np.int32)
    return Packed(ids, random.random((rows, length + 1)) < 0.5)


def held_out(vocabulary: int = 20) -> dict[str, list[Encoded]]:
    ids = np.arange(10, dtype=np.int32) % vocabulary
    return {"qa": [Encoded("qa", ids, ids > 4)]}


def check_learning(
    head: Any,
    target: PreTrainedModel,
    ids_BT: Tensor,
    learn_BT: Tensor,
    kind: ModuleType,
    steps: int,
    kept_N: Tensor | None = None,
) -> None:
    """A draft head that learns `ids_BT` for some steps lowers its held-out loss on the first row, and leaves the target
    as it was. `kind`: the module of its losses."""
    before = {name: p.clone() for name, p in target.named_parameters()}
    chat = {"qa": [Encoded("qa", ids_BT[0].int().numpy(), learn_BT[0].numpy())]}
    first = kind.held_out_loss(head, chat, False, (), kept_N)[1]["qa"]
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = kind.sums_of_losses(head, ids_BT, learn_BT, False, (), kept_N).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert kind.held_out_loss(head, chat, False, (), kept_N)[1]["qa"] < first - 0.01
    assert all(torch.equal(p, before[name]) for name, p in target.named_parameters())


def tiny_spec(steps: int = 12, **changed: Any) -> TrainSpec:
    """`steps` steps of four sequences of 8, in float32, with a checkpoint every 4 and a validation every 5."""
    fields: dict[str, Any] = {
        "tokens": steps * 32,
        "length": 8,
        "batch": 4,
        "micro_batch": 3,
        "autocast": False,
        "validate_every": 5,
        "checkpoint_every": 4,
    }
    return TrainSpec(**{**fields, **changed})
