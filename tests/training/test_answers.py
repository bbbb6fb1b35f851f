"""A model's own answers: which prompts, what is decoded, and how a killed run goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.models.chat import ChatTemplate, Message
from specbench_s2d.training.answers import (
    OWN,
    Answerer,
    AnswerSpec,
    Prompt,
    answer_chats,
    batches_of,
    chosen_prompts,
    write_answers,
)
from specbench_s2d.training.data import Chat, read_chats
from tests.refusals import refused

from .factory import chat, sums, tiny_checkpoint, tiny_tokenizer, write_chats


@pytest.fixture(scope="module")
def template() -> ChatTemplate:
    return ChatTemplate.choose(tiny_tokenizer(), "demo")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model"))


class Echo(Answerer):
    """Answers each prompt with its length; counts what it was asked."""

    def __init__(self, template: ChatTemplate, spec: AnswerSpec, own: Sequence[str] = ()) -> None:
        self.template, self.spec, self.asked, self.own = template, spec, 0, list(own)

    def answers(self, prompts: Sequence[Prompt]) -> list[str]:
        self.asked += len(prompts)
        return [str(len(prompt.ids)) for prompt in prompts]

    def own_prompts(self, number: int) -> list[Prompt]:
        return [Prompt(OWN, "", self.own.pop(), ()) for _ in range(number)]


def of_suites(*suites: str) -> list[Chat]:
    return [chat(f"{suite} {i}", "x", suite) for suite in suites for i in range(3)]


def test_suites_take_turns_and_a_limit_cuts_all_alike(template: ChatTemplate) -> None:
    found = chosen_prompts(of_suites("qa", "math", "rag"), template, AnswerSpec(limit=6))
    assert sorted(p.suite for p in found[:3]) == sorted(p.suite for p in found[3:]) == ["math", "qa", "rag"]


def test_a_prompt_is_asked_once_and_long_ones_are_left_out(template: ChatTemplate) -> None:
    chats = [chat("1 + 1", "2"), chat("1 + 1", "two"), chat("1 + 1 " * 50, "x")]
    assert [p.text for p in chosen_prompts(chats, template, AnswerSpec(prompt_tokens=40))] == ["1 + 1"]
    with refused(UserError, "--prompt-tokens 1"):
        chosen_prompts(chats, template, AnswerSpec(prompt_tokens=1))


def test_batches_hold_every_prompt_once_and_like_lengths() -> None:
    prompts = [Prompt("qa", "", str(i), tuple(range(i % 17))) for i in range(100)]
    batches = batches_of(prompts, 10)
    assert sorted(p.text for batch in batches for p in batch) == sorted(p.text for p in prompts)
    assert all(len(b[-1].ids) - len(b[0].ids) <= 3 for b in batches)


def test_answers_are_what_greedy_decoding_gives_one_by_one(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    data, out = write_chats(tmp_path / "sums.jsonl", sums(12)), tmp_path / "answers.jsonl"
    spec = AnswerSpec(max_new_tokens=6, batch=5)
    assert answer_chats(str(folder), [str(data)], [], spec, out, "demo") == 12
    chat_template = ChatTemplate.choose(tiny_tokenizer(), "demo")
    module = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.bfloat16).eval()
    alone = Answerer(module, chat_template, spec, [tiny_tokenizer().eos_token_id])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    same = 0
    for row in rows:
        text = row["messages"][0]["content"]
        ids = tuple(chat_template.encode([Message(role="user", content=text)]))
        same += alone.answers([Prompt("qa", "", text, ids)]) == [row["messages"][1]["content"]]
    assert same >= 10  # padding rounds differently in bfloat16
    assert [chat.suite for chat in read_chats([str(out)])] == [row["suite"] for row in rows]


def test_a_killed_run_goes_on_and_asks_nothing_twice(template: ChatTemplate, tmp_path: Path) -> None:
    spec, out = AnswerSpec(batch=4), tmp_path / "answers.jsonl"
    prompts = chosen_prompts(sums(20), template, spec)
    whole = Echo(template, spec)
    write_answers(whole, prompts, out, {"model": "a"})
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:8]) + lines[8][:10])
    again = Echo(template, spec)
    assert write_answers(again, prompts, out, {"model": "a"}) == 20
    assert out.read_text() == "".join(lines)
    assert (whole.asked, again.asked) == (20, 12)


def test_other_settings_and_unknown_files_are_refused(template: ChatTemplate, tmp_path: Path) -> None:
    spec, out = AnswerSpec(), tmp_path / "answers.jsonl"
    prompts = chosen_prompts(sums(3), template, spec)
    write_answers(Echo(template, spec), prompts, out, {"model": "a"})
    with refused(RunFolderError, "differs in model"):
        write_answers(Echo(template, spec), prompts, out, {"model": "b"})
    stray = tmp_path / "stray.jsonl"
    stray.write_text("{}\n")
    with refused(RunFolderError, "nothing beside it"):
        write_answers(Echo(template, spec), prompts, stray, {})


def test_own_prompts_are_written_once(template: ChatTemplate, tmp_path: Path) -> None:
    spec, out = AnswerSpec(own_prompts=3, batch=2), tmp_path / "answers.jsonl"
    write_answers(Echo(template, spec, ["a", "b", "c"]), [], out, {})
    assert {json.loads(line)["messages"][0]["content"] for line in out.read_text().splitlines()} == {"a", "b", "c"}
    assert write_answers(Echo(template, spec), [], out, {}) == 3


def test_a_model_writes_prompts_after_the_templates_opening(folder: Path, template: ChatTemplate) -> None:
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.bfloat16)
    answerer = Answerer(module, template, AnswerSpec(), [tiny_tokenizer().eos_token_id])
    given: list[list[int]] = []
    inner = answerer._generate

    def remember(prompts: list[list[int]], tokens: int, temperature: float) -> list[list[int]]:
        given.extend(prompts)
        return inner(prompts, tokens, temperature)

    answerer._generate = remember  # type: ignore[method-assign]
    torch.manual_seed(0)
    found = answerer.own_prompts(4)
    assert tiny_tokenizer().decode(given[0]) == "<|bos|><|user|>"
    assert found and all(p.suite == OWN and p.text for p in found)


def test_rows_are_taken_by_their_source(folder: Path, tmp_path: Path) -> None:
    data = write_chats(tmp_path / "sums.jsonl", sums(4))
    with refused(UserError, "--only gsm8k"):
        answer_chats(str(folder), [str(data)], ["gsm8k"], AnswerSpec(), tmp_path / "a.jsonl")
