"""Chat templates: which is chosen, and the exact text that Vicuna's makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.models.chat import TEMPLATES, ChatTemplate, Message, default_template
from tests.refusals import refused

TWO_TURNS: list[Message] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Who are you?"},
]
FINISHED: list[Message] = [*TWO_TURNS, {"role": "assistant", "content": "Vicuna"}]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte by byte, with Llama's special tokens and no template of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def own(tiny_models: Path) -> PreTrainedTokenizerBase:
    """A tokenizer that carries a template."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(tiny_models / "tiny-target"))
    return loaded


def test_the_tokenizers_own_template_comes_first(own: PreTrainedTokenizerBase) -> None:
    chosen = ChatTemplate.choose(own)
    assert (chosen.name, chosen.source) == ("tokenizer", TEMPLATES["demo"])
    assert ChatTemplate.choose(own, "tokenizer") == chosen


def test_of_several_own_templates_the_default_is_taken(own: PreTrainedTokenizerBase) -> None:
    own.chat_template = {"default": "{{ messages[0].content }}", "tools": "wrong"}
    assert ChatTemplate.choose(own).render(TWO_TURNS) == "Hi"


def test_a_tokenizer_without_one_gets_vicunas(tokenizer: PreTrainedTokenizerFast) -> None:
    assert ChatTemplate.choose(tokenizer).name == "vicuna"
    with refused(UserError, "--template tokenizer", "vicuna"):
        ChatTemplate.choose(tokenizer, "tokenizer")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("lmsys/vicuna-7b-v1.5", "vicuna"),
        ("Vicuna-33B-mine", "vicuna"),
        ("facebook/opt-13b", "plain"),
        ("meta-llama/Llama-2-13b-hf", "plain"),
    ],
)
def test_without_a_template_a_vicuna_gets_vicunas_and_a_base_model_none(
    tokenizer: PreTrainedTokenizerFast, own: PreTrainedTokenizerBase, model: str, expected: str
) -> None:
    assert ChatTemplate.choose(tokenizer, None, default_template(model)).name == expected
    assert ChatTemplate.choose(tokenizer, "llama-2", default_template(model)).name == "llama-2"
    assert ChatTemplate.choose(own, None, default_template(model)).name == "tokenizer"


def test_a_named_template_goes_before_the_own(own: PreTrainedTokenizerBase) -> None:
    assert ChatTemplate.choose(own, "plain").source == TEMPLATES["plain"]


def test_vicunas_text_is_fastchats(tokenizer: PreTrainedTokenizerFast) -> None:
    """FastChat's vicuna_v1.1 (two separators: a space after the user, `</s>` after the assistant, then no space)."""
    template = ChatTemplate.choose(tokenizer, "vicuna")
    expected = (
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. "
        "USER: Hi ASSISTANT: Hello</s>USER: Who are you? ASSISTANT:"
    )
    assert template.render(TWO_TURNS) == expected
    assert template.render(FINISHED, answer_next=False) == expected + " Vicuna</s>"


def test_vicunas_system_text_can_be_replaced(tokenizer: PreTrainedTokenizerFast) -> None:
    template = ChatTemplate.choose(tokenizer, "vicuna")
    messages: list[Message] = [{"role": "system", "content": "Be brief."}, *TWO_TURNS[:1]]
    assert template.render(messages) == "<s>Be brief. USER: Hi ASSISTANT:"


@pytest.mark.parametrize(
    ("given", "name"), [("Vicuna", "vicuna"), ("vicuna_v1.1", "vicuna"), ("llama 2", "llama-2"), ("vic", "vicuna")]
)
def test_a_template_is_named_as_people_write_it(given: str, name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    assert ChatTemplate.choose(tokenizer, given).name == name


def test_the_other_templates_text(tokenizer: PreTrainedTokenizerFast) -> None:
    def rendered(name: str) -> str:
        return ChatTemplate.choose(tokenizer, name).render(TWO_TURNS)

    assert rendered("llama-2") == "<s>[INST] Hi [/INST] Hello </s><s>[INST] Who are you? [/INST]"
    assert rendered("plain") == "<s>Hi\nHello</s>Who are you?\n"
    assert rendered("demo") == "<s><|user|>Hi<|assistant|>Hello</s><|user|>Who are you?<|assistant|>"


def test_every_built_in_template_renders_a_system_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    """Llama 2's form is that of Meta's own generation.py: the system text inside the first user message."""
    system: Message = {"role": "system", "content": "Be brief."}
    rendered = {name: ChatTemplate.choose(tokenizer, name).render([system, *TWO_TURNS]) for name in TEMPLATES}
    assert rendered["llama-2"] == (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Who are you? [/INST]"
    )
    assert rendered["plain"] == "<s>Be brief.\nHi\nHello</s>Who are you?\n"
    assert rendered["demo"].startswith("<s><|user|>Be brief.<|user|>Hi<|assistant|>")
    assert all(ChatTemplate.choose(tokenizer, name).no_system is None for name in TEMPLATES)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "drops"),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages }}", "cannot render"),
        ("Be brief.{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "drops"),
        ("{% for m in messages %}{{ m.content | trim }}{% endfor %}", None),
    ],
)  # fmt: skip
def test_a_template_that_drops_the_system_prompt_is_found(
    tokenizer: PreTrainedTokenizerFast, source: str, why: str | None
) -> None:
    found = ChatTemplate("mine", source, tokenizer).no_system
    assert (found is None) == (why is None) and (found or "").startswith(why or "")


def test_half_a_character_is_no_text_to_encode(tokenizer: PreTrainedTokenizerFast) -> None:
    with refused(UserError, "template 'mine' cannot render this conversation", "surrogates not allowed"):
        ChatTemplate("mine", "{{ '\\ud800' }}", tokenizer).render(TWO_TURNS[:1])


THINKING = (
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}!{% endif %}"
)


def test_arguments_reach_the_template(tokenizer: PreTrainedTokenizerFast) -> None:
    template = ChatTemplate("tokenizer", THINKING, tokenizer)
    assert template.render(TWO_TURNS[:1]) == "Hi"
    assert template.with_args({"enable_thinking": False}, "m").render(TWO_TURNS[:1]) == "Hi!"
    assert template.with_args({"enable_thinking": True}, "m").render(TWO_TURNS[:1]) == "Hi"
    marked = ChatTemplate("tokenizer", THINKING + "{% generation %}{% endgeneration %}", tokenizer)
    assert marked.with_args({"enable_thinking": False}, "m").render(TWO_TURNS[:1]) == "Hi!"


def test_arguments_that_would_change_nothing_are_refused(
    tokenizer: PreTrainedTokenizerFast, own: PreTrainedTokenizerBase
) -> None:
    template = ChatTemplate("tokenizer", THINKING, tokenizer)
    for name in ("enable_thinkin", "m"):
        with refused(
            UserError, f"--template-args {name}: the chat template of qwen ('tokenizer') reads no such argument"
        ):
            template.with_args({name: False}, "qwen")
    for name in ("tokenize", "messages", "add_generation_prompt"):
        with refused(UserError, f"--template-args {name}: is no argument that a person can give"):
            template.with_args({name: False}, "qwen")
    with refused(UserError, "the chat template of m ('vicuna') reads no such argument"):
        ChatTemplate.choose(own, "vicuna").with_args({"bos_token": "x"}, "m")
    assert template.with_args({}, "qwen") is template


def test_special_tokens_are_ids_of_their_own_and_come_once(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = ChatTemplate.choose(tokenizer, "vicuna").encode(TWO_TURNS)
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids[-10:]) == "ASSISTANT:"


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_segments_concatenate_to_the_rendering(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    template = ChatTemplate.choose(tokenizer, name)
    segments = template.segments(FINISHED)
    assert "".join(text for text, _ in segments) == template.render(FINISHED, answer_next=False)
    assert [is_answer for _, is_answer in segments] == [False, True, False, True]
    for (text, _), answer in zip(segments[1::2], ("Hello", "Vicuna"), strict=True):
        assert text.strip().removesuffix("</s>").strip() == answer
        assert text.endswith("</s>")


def test_a_template_that_rewrites_earlier_turns_cannot_train(tokenizer: PreTrainedTokenizerFast) -> None:
    template = ChatTemplate(
        "count", "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}", tokenizer
    )
    with refused(UserError, "'count'", "--template"):
        template.segments(FINISHED)


def test_a_template_may_be_a_file(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}", encoding="utf-8")
    template = ChatTemplate.choose(tokenizer, str(file))
    assert template.name == str(file)
    assert template.render(TWO_TURNS) == "[user] Hi [assistant] Hello [user] Who are you? "


@pytest.mark.parametrize(
    "source",
    ["{% for m in messages %}", "{{ raise_exception('roles must alternate') }}", "{{ messages + 1 }}", "{{ 1 / 0 }}"],
    ids=["not Jinja", "refuses", "of wrong types", "raises"],
)
def test_a_template_that_fails_is_said_in_one_line(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, source: str
) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(source, encoding="utf-8")
    with refused(UserError, "mine.jinja"):
        ChatTemplate.choose(tokenizer, str(file)).render(TWO_TURNS)


@pytest.mark.parametrize("own_template", [5, {"other": "x"}, ["x"]])
def test_an_own_template_that_is_no_text_is_refused(own: PreTrainedTokenizerBase, own_template: Any) -> None:
    own.chat_template = own_template
    with refused(UserError, "the tokenizer's chat template", "give --template"):
        ChatTemplate.choose(own)


def test_a_file_that_is_not_text_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_bytes(b"\xff\xfe\x00")
    with refused(UserError, "mine.jinja", "UTF-8"):
        ChatTemplate.choose(tokenizer, str(tmp_path / "mine.jinja"))


def test_an_unknown_template_is_refused_with_the_nearest(tokenizer: PreTrainedTokenizerFast) -> None:
    with refused(UnknownNameError, "template 'vicunna'", "Did you mean 'vicuna'", "Jinja"):
        ChatTemplate.choose(tokenizer, "vicunna")


def test_a_template_that_renders_nothing_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with refused(UserError, "template 'mine' renders no text here"):
        ChatTemplate("mine", "", tokenizer).encode([Message(role="user", content="Hi")])


def test_a_system_prompt_in_capitals_is_not_dropped(tokenizer: PreTrainedTokenizerFast) -> None:
    source = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    assert ChatTemplate("mine", source, tokenizer).no_system is None
