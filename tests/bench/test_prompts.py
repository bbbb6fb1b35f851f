"""Prompts: laid out by the template, never longer than the context leaves room for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from specbench_s2d.bench.prompts import Prompts
from specbench_s2d.errors import PromptTooLongError, UserError
from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.suites import Question
from tests.refusals import refused

ONE = Question("q", "qa", "qa", ("Where does the river run?",))
TWO = Question("m", "mt_bench", "writing", ("Write a line.", "Write another."))


@pytest.fixture
def template(tiny_models: Path) -> ChatTemplate:
    return ChatTemplate.choose(resolve_model(str(tiny_models / "tiny-target")).tokenizer)


def test_a_prompt_that_fits_is_the_templates_rendering(template: ChatTemplate) -> None:
    prompt = Prompts(template, 256, 8, "fail").lay_out(ONE, [])
    assert prompt.ids == template.encode([{"role": "user", "content": ONE.turns[0]}])
    assert not prompt.truncated


def test_a_second_turn_holds_the_first_answer(template: ChatTemplate) -> None:
    prompts = Prompts(template, 256, 8, "fail")
    first, second = prompts.lay_out(TWO, ["A line."]), prompts.lay_out(TWO, ["Another line."])
    assert "A line." in template.tokenizer.decode(first.ids)
    assert first.hash != second.hash


def test_a_system_prompt_comes_first_and_changes_the_prompts_hash(template: ChatTemplate) -> None:
    prompts = Prompts(template, 256, 8, "fail")
    asked = replace(TWO, system_prompt="Be brief.")
    first, second = prompts.lay_out(asked, []), prompts.lay_out(asked, ["A line."])
    assert all("Be brief." in template.tokenizer.decode(prompt.ids) for prompt in (first, second))
    assert first.hash != prompts.lay_out(TWO, []).hash
    assert prompts.longest([asked]) > prompts.longest([TWO])


def test_a_system_prompt_that_the_template_drops_is_refused_by_question(template: ChatTemplate) -> None:
    source = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    prompts = Prompts(ChatTemplate("tokenizer", source, template.tokenizer), 256, 8, "fail")
    prompts.check_system(ONE, "tiny")
    said = "question q (qa) has a system prompt, which the chat template of tiny ('tokenizer') drops; give another"
    with refused(UserError, said):
        prompts.check_system(replace(ONE, system_prompt="Be brief."), "tiny")


def test_truncation_keeps_both_ends_and_leaves_room_for_the_answer(template: ChatTemplate) -> None:
    whole = Prompts(template, 4096, 8, "fail").lay_out(ONE, []).ids
    context = len(whole) + 8 - 4
    cut = Prompts(template, context, 8, "truncate").lay_out(ONE, [])
    half = (context - 8) // 2
    assert cut.truncated
    assert len(cut.ids) == context - 8
    assert cut.ids[:half] == whole[:half]
    assert cut.ids[half:] == whole[-(context - 8 - half) :]


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_prompt_that_does_not_fit_is_refused_with_its_figures(template: ChatTemplate, policy: str) -> None:
    prompts = Prompts(template, 10, 8, policy)  # type: ignore[arg-type]
    with pytest.raises(PromptTooLongError, match=r"question q \(qa\), turn 1: .* the context holds 10.*--long-prompts"):
        prompts.lay_out(ONE, [])


def test_the_check_before_a_run_allows_for_answers_of_full_length(template: ChatTemplate) -> None:
    both = len(template.encode([{"role": "user", "content": t} for t in TWO.turns]))
    Prompts(template, both + 200, 50, "fail").check(TWO)
    with pytest.raises(PromptTooLongError, match="turn 2"):
        Prompts(template, both + 60, 50, "fail").check(TWO)
