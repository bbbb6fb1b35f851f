"""The draft heads that ship, of every kind: lossless, and well above one token a step on text that suits them."""

from __future__ import annotations

import pytest

from specbench_s2d import build_decoder, load_model
from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.suites import load_questions


@pytest.mark.parametrize(
    ("target_name", "decoder"),
    [
        ("demo-m", "eagle:gamma=4"),
        ("demo-m", "eagle:depth=4,topk=4,tokens=12"),
        ("demo-l", "medusa:gamma=4"),
        ("demo-l", "medusa:tree=confidence,tokens=16"),
    ],
)
def test_a_head_that_ships_drafts_what_its_target_says(target_name: str, decoder: str) -> None:
    target, head = load_model(target_name), load_model(f"{target_name}-{decoder.partition(':')[0]}")
    chat = ChatTemplate.choose(target.tokenizer, None)
    steps = []
    for question in load_questions("embedded", ["qa", "math_reasoning"], 2):
        prompt = chat.encode([{"role": "user", "content": question.turns[0]}])
        expected = build_decoder("ar", target).generate(prompt, max_new_tokens=32).ids
        generation = build_decoder(decoder, target, head).generate(prompt, max_new_tokens=32)
        assert generation.ids == expected
        steps += generation.steps
    assert sum(len(step.emitted) for step in steps) / len(steps) > 1.5
