"""Chat templates: a conversation as text, rendered the same way for benchmarks and for training.

The template is the one named by the user, else the tokenizer's own, else Vicuna's for a Vicuna (Spec-Bench's targets
carry none), else a template without roles, for base models. Training renders the same text in segments, so that the ids
of an answer are exactly those that decoding has to produce.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from specbench_s2d.errors import UserError, find_name, in_one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Message(TypedDict):
    """One turn of a conversation, in the common `role`/`content` format."""

    role: str
    content: str


_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)

TEMPLATES: dict[str, str] = {
    # Vicuna v1.1 and later (FastChat's "vicuna_v1.1"): the template of all Spec-Bench targets.
    "vicuna": (
        "{{ bos_token }}"
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
        + _VICUNA_SYSTEM
        + "{% endif %}{{ ' ' }}"
        "{% for m in messages %}"
        "{% if m.role == 'user' %}USER: {{ m.content }}{{ ' ' }}"
        "{% elif m.role == 'assistant' %}ASSISTANT: {{ m.content }}{{ eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "llama-2": (
        "{% if messages[0].role == 'system' %}"
        "{% set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
        "{% for m in messages %}"
        "{% if m.role == 'user' %}{{ bos_token }}[INST] {{ system if loop.first else '' }}{{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    # No roles at all: for base models, which continue text.
    "plain": (
        "{{ bos_token }}{% for m in messages %}{{ m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}{% endfor %}"
    ),
    # The demo family's own; each role is one token of its vocabulary.
    "demo": (
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'assistant' %}<|assistant|>{{ m.content | trim }}{{ eos_token }}"
        "{% else %}<|user|>{{ m.content | trim }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
}

_OTHER_NAMES = {"vicuna_v1.1": "vicuna", "llama-2-chat": "llama-2"}  # FastChat's, and the model's
_ANOTHER = f"give --template with one of {', '.join(sorted(TEMPLATES))} or a Jinja file"


def template_name(name: str) -> str:
    """The template that is meant, by its name in `TEMPLATES`, `tokenizer`, or a Jinja file's path as it is; raises
    `UnknownNameError` for anything else."""
    if name not in TEMPLATES and Path(name).is_file():
        return name
    return find_name("template", name, [*TEMPLATES, "tokenizer"], "Or the path of a Jinja file.", _OTHER_NAMES)


def default_template(model: str) -> str:
    """The template of a model whose tokenizer carries none: `vicuna` for names that contain it, else `plain`."""
    return "vicuna" if "vicuna" in model.lower() else "plain"


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja chat template bound to a tokenizer.

    `name`: `tokenizer`, a name in `TEMPLATES`, or the path of a file; runs record it. `args`: what the template is
    rendered with beside the messages, such as `enable_thinking`.
    """

    name: str
    source: str
    tokenizer: PreTrainedTokenizerBase
    args: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def choose(
        cls, tokenizer: PreTrainedTokenizerBase, name: str | None = None, default: str = "vicuna"
    ) -> ChatTemplate:
        """The template `name` if given, else the tokenizer's own, else `default`.

        Raises `UserError` when `name` is neither a known template nor a readable Jinja file.
        """
        if name is None:
            name = "tokenizer" if tokenizer.chat_template else default
        name = template_name(name)
        if name == "tokenizer":
            if not tokenizer.chat_template:
                raise UserError(
                    "--template tokenizer: this tokenizer carries no chat template; "
                    f"give one of {', '.join(sorted(TEMPLATES))} or a Jinja file."
                )
            return cls("tokenizer", _own(tokenizer), tokenizer)
        if name in TEMPLATES:
            return cls(name, TEMPLATES[name], tokenizer)
        return cls(name, _read(Path(name)), tokenizer)

    def with_args(self, args: Mapping[str, Any], model: str) -> ChatTemplate:
        """The same template rendered with `args`; raises `UserError` for one that this template, of `model`, does not
        read, for it would change nothing, and for one that a run gives itself."""
        if not args:
            return self
        reserved = inspect.signature(self.tokenizer.apply_chat_template).parameters.keys() | {"messages"}
        known = set() if self.name in TEMPLATES else _arguments(self.source)
        for name in args:
            if name in reserved:
                raise UserError(f"--template-args {name}: is no argument that a person can give; leave it out.")
            if name not in known:
                raise UserError(
                    f"--template-args {name}: the chat template of {model} ({self.name!r}) reads no such argument; "
                    "leave it out, or give a --template that reads it."
                )
        return replace(self, args=dict(args))

    @cached_property
    def no_system(self) -> str | None:
        """What the template does with a system prompt, where it does not render it; None where it does."""
        mark = "system-prompt-7f3a"
        try:
            text = self.render([Message(role="system", content=mark), Message(role="user", content="Hi")])
        except UserError:
            return "cannot render"
        return None if mark in text.lower() else "drops"

    def render(self, messages: Sequence[Message], answer_next: bool = True) -> str:
        """The conversation as text, up to the start of the assistant's next answer if `answer_next`.

        Raises `UserError` for a template that is not Jinja, or that refuses the conversation.
        """
        turns = [{"role": message["role"], "content": message["content"]} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                turns, chat_template=self.source, tokenize=False, add_generation_prompt=answer_next, **self.args
            )
            assert isinstance(text, str)
            text.encode()  # halves of characters are refused here, for no tokenizer takes them
        except Exception as error:  # of Jinja, and whatever the expressions of a template raise
            raise UserError(
                f"template {self.name!r} cannot render this conversation ({in_one_line(error)}); correct it, or name "
                "another."
            ) from error
        return text

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Prompt ids of a conversation, for the assistant to continue; raises `UserError` where there are none."""
        bos, rest = self.split_bos(self.render(messages))
        ids = bos + [int(i) for i in self.tokenizer.encode(rest, add_special_tokens=False)]
        if not ids:
            raise UserError(f"template {self.name!r} renders no text here; correct it, or name another.")
        return ids

    def split_bos(self, text: str) -> tuple[list[int], str]:
        """The BOS (beginning of sequence) id that a template of `TEMPLATES` starts `text` with, and the text after it.

        The two are encoded separately, as FastChat does, so that sentencepiece adds its space before the first word. No
        id is split off where a tokenizer's own template is used.
        """
        bos, bos_id = self.tokenizer.bos_token, self.tokenizer.bos_token_id
        if self.name in TEMPLATES and isinstance(bos, str) and isinstance(bos_id, int) and text.startswith(bos):
            return [bos_id], text[len(bos) :]
        return [], text

    def segments(self, messages: Sequence[Message]) -> list[tuple[str, bool]]:
        """Split a finished conversation into (text, is_answer) pieces that concatenate to its rendering.

        The piece of an answer ends with the template's end-of-answer token, which the model must learn to emit. Raises
        `UserError` for a template that changes the text of earlier turns when turns are added.
        """
        pieces: list[tuple[str, bool]] = []
        done = ""
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self.render(messages[:i])
            whole = self.render(messages[: i + 1], answer_next=False)
            if not (prompt.startswith(done) and whole.startswith(prompt)):
                raise UserError(
                    f"template {self.name!r} rewrites earlier turns, so answers cannot be told from prompts; "
                    "train with another --template."
                )
            pieces += [(prompt[len(done) :], False), (whole[len(prompt) :], True)]
            done = whole
        return pieces


def _own(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's template, of several the default one; raises `UserError` where that is no text."""
    try:
        source: object = tokenizer.get_chat_template()
    except Exception as error:  # several without a default, or what is no template at all
        raise UserError(f"the tokenizer's chat template cannot be used ({in_one_line(error)}); {_ANOTHER}.") from error
    if not isinstance(source, str):
        raise UserError(f"the tokenizer's chat template is {str(source)[:80]}, and must be a text; {_ANOTHER}.")
    return source


def _arguments(source: str) -> set[str]:
    """The names that a template reads from outside; where it has tags of transformers' own, every word of it."""
    from jinja2 import Environment, TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables

    try:
        return find_undeclared_variables(Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source))
    except TemplateSyntaxError:
        return set(re.findall(r"\w+", source))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--template {file}: cannot be read as UTF-8 text ({error}); give a Jinja file.") from error
