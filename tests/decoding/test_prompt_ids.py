"""What `generate` is handed: everything that means one prompt in ids is taken, anything else told what to write."""

from __future__ import annotations

from collections import UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.prompt_ids import as_ids
from specbench_s2d.errors import UserError
from tests.refusals import refused

IDS = [5, 0, 7]


@pytest.mark.parametrize(
    "prompt",
    [
        IDS,
        tuple(IDS),
        [IDS],
        torch.tensor(IDS),
        torch.tensor([IDS]),
        np.array(IDS),
        list(np.array(IDS)),
        [torch.tensor(IDS)],
        [np.array(IDS)],
        [torch.tensor(token) for token in IDS],
        torch.tensor(IDS).to_sparse(),
        {"input_ids": IDS, "attention_mask": [1, 1, 1]},
        {"input_ids": torch.tensor([IDS]), "attention_mask": torch.ones(1, 3)},
        UserDict({"input_ids": [IDS], "attention_mask": [[1, 1, 1]]}),
        {"input_ids": IDS},
    ],
)
def test_one_prompt_in_ids_is_taken(prompt: Any) -> None:
    found = as_ids(prompt, 8)
    assert found == IDS and all(type(token) is int for token in found)


def test_no_ids_stay_none() -> None:
    assert as_ids([], 8) == as_ids(torch.tensor([]), 8) == []


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Hi", "generate takes token ids, got a text: write for a chat, target.tokenizer.apply_chat_template("),
        ([{"role": "user", "content": "Hi"}], "generate takes token ids, got messages: write for a chat"),
        (["Hi"], "generate takes token ids from 0 to 7, got 'Hi' at position 0"),
        (None, "generate takes token ids, got NoneType: write"),
        (3, "generate takes token ids, got int: write"),
        ([IDS, IDS], "generate takes one prompt, got a batch of 2: call it once for each"),
        (torch.tensor([IDS, IDS]), "got a batch of 2"),
        ({"ids": IDS}, "got a dict without 'input_ids' (it holds ids): write"),
        ({"input_ids": [[0, 5]], "attention_mask": [[0, 1]]}, "without padding"),
        ([5, 8], "generate takes token ids from 0 to 7, got '8' at position 1"),
        ([-1], "got '-1' at position 0"),
        ([5, 1.0], "got '1.0' at position 1"),
        ([True], "got 'True' at position 0"),
        (b"Hi", "generate takes token ids, got a text: write"),
        (bytearray(b"Hi"), "got a text: write"),
        ([torch.tensor(1.5)], "got 'tensor(1.5000)' at position 0"),
        ([torch.tensor(IDS), torch.tensor(IDS)], "got a batch of 2"),
        (torch.empty(3, device="meta"), "got a tensor that holds none"),
        ({"input_ids": IDS, "attention_mask": 0}, "without padding"),
    ],
)
def test_anything_else_is_one_line(prompt: Any, said: str) -> None:
    with refused(UserError, said):
        as_ids(prompt, 8)


def test_a_tokenizers_own_dicts_are_taken(tiny_models: Path) -> None:
    target = load_model(str(tiny_models / "tiny-target"), device="cpu", dtype="float32")
    decoder = build_decoder("ar", target=target)
    chat = [{"role": "user", "content": "Write a line."}]
    made = target.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = made["input_ids"][0].tolist()
    expected = decoder.generate(ids, max_new_tokens=4).ids
    assert decoder.generate(made, max_new_tokens=4).ids == expected
    assert decoder.generate(made["input_ids"], max_new_tokens=4).ids == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_new_tokens": 1.5}, "max_new_tokens 1.5: a whole number, at least 1"),
        ({"max_new_tokens": None}, "max_new_tokens None: a whole number"),
        ({"temperature": "1"}, "temperature '1', top_k 0"),
        ({"top_k": 1.5}, "top_k 1.5, top_p 1.0"),
        ({"top_p": None}, "top_p None"),
        ({"seed": None}, "seed None: temperature and top_k"),
        ({"seed": 2**64}, "seed 18446744073709551616: give a whole number of at most 64 bits"),
    ],
)
def test_settings_that_are_no_numbers_are_one_line(settings: dict[str, Any], said: str, tiny_models: Path) -> None:
    target = load_model(str(tiny_models / "tiny-target"), device="cpu", dtype="float32")
    with refused(UserError, said):
        build_decoder("ar", target=target).generate(IDS, **settings)


@pytest.mark.parametrize("target", ["demo-s", None])
def test_a_name_in_place_of_a_model_is_one_line(target: Any) -> None:
    with refused(UserError, f"build_decoder: target {target!r} is no loaded model; give load_model("):
        build_decoder("ar", target=target)
