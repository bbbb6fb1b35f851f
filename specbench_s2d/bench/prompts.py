"""From a question and the answers so far to prompt ids that fit the context."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from specbench_s2d.errors import PromptTooLongError, UserError
from specbench_s2d.models.chat import ChatTemplate, Message
from specbench_s2d.suites import Question


@dataclass(frozen=True)
class Prompt:
    """What a decoder is given. `hash` is of the ids; `truncated` says that tokens in the middle were left out."""

    ids: list[int]
    truncated: bool

    @property
    def hash(self) -> str:
        return hashlib.sha256(",".join(map(str, self.ids)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Prompts:
    """Lays out the prompts of one target. `context`: positions that a sequence may have, and `whose` they are."""

    template: ChatTemplate
    context: int
    max_new_tokens: int
    long_prompts: Literal["fail", "skip", "truncate"]
    whose: str = ""

    def lay_out(self, question: Question, answers: Sequence[str]) -> Prompt:
        """The prompt of turn `len(answers)`; raises `PromptTooLongError` where it does not fit and may not be cut.

        Truncation keeps the beginning and the end, half each: instructions and question stand there.
        """
        ids = self.template.encode(conversation(question, answers))
        room = self.context - self.max_new_tokens
        if len(ids) <= room:
            return Prompt(ids, False)
        if self.long_prompts != "truncate" or room < 2:
            raise self._too_long(question, len(answers), len(ids))
        return Prompt(ids[: room // 2] + ids[len(ids) - (room - room // 2) :], True)

    def check_room(self) -> None:
        """Raise `PromptTooLongError` where the new tokens leave no room for any prompt."""
        if self.context - self.max_new_tokens < 2:
            of = f" of {self.whose}" if self.whose else ""
            raise PromptTooLongError(
                f"--max-new-tokens {self.max_new_tokens:,}: the context{of} holds {self.context:,} positions, prompt "
                "included; lower it."
            )

    def check(self, question: Question) -> None:
        """Raise `PromptTooLongError` if a turn might not fit even with answers of full length."""
        prompt = self._longest_prompt(question)
        if prompt + self.max_new_tokens > self.context:
            raise self._too_long(question, len(question.turns) - 1, prompt)

    def check_system(self, question: Question, target: str) -> None:
        """Raise `UserError` if the question has a system prompt that the template would drop."""
        if question.system_prompt and (why := self.template.no_system):
            raise UserError(
                f"question {question.id} ({question.suite}) has a system prompt, which the chat template of {target} "
                f"({self.template.name!r}) {why}; give another --template, or take the system prompts out."
            )

    def longest(self, questions: Iterable[Question]) -> int:
        """Positions that the longest of these conversations may come to, at most the context.

        An answer's text, encoded again, may come to more tokens than were generated: half as many more are allowed for.
        """
        more = self.max_new_tokens // 2
        prompts = (self._longest_prompt(question) + (len(question.turns) - 1) * more for question in questions)
        return min(self.context, self.max_new_tokens + max(prompts))

    def _longest_prompt(self, question: Question) -> int:
        """Tokens of the last turn's prompt where every answer before it is as long as it may be."""
        last = len(question.turns) - 1
        return len(self.template.encode(conversation(question, [""] * last))) + last * self.max_new_tokens

    def _too_long(self, question: Question, turn: int, tokens: int) -> PromptTooLongError:
        of = f" of {self.whose}" if self.whose else ""
        return PromptTooLongError(
            f"question {question.id} ({question.suite}), turn {turn + 1}: up to {tokens:,} prompt tokens and "
            f"{self.max_new_tokens:,} new ones; the context{of} holds {self.context:,}. "
            "Give --long-prompts skip or truncate, or lower --max-new-tokens."
        )


def conversation(question: Question, answers: Sequence[str] = ()) -> list[Message]:
    """The messages up to turn `len(answers)`: the system prompt where there is one, then turns and answers."""
    system = [Message(role="system", content=question.system_prompt)] if question.system_prompt else []
    messages = [*system, Message(role="user", content=question.turns[0])]
    for answer, turn in zip(answers, question.turns[1:], strict=False):
        messages += [Message(role="assistant", content=answer), Message(role="user", content=turn)]
    return messages
