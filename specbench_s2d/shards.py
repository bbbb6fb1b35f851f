"""Shards: a grid cut into parts for several devices or machines, each of which one command runs.

A shard is whole targets where there are at least as many targets as shards, else a block of whole questions of one
target; never some decoders of a question, so that every speed-up pairs cells of one device. Repeats and launches of a
question stay together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from specbench_s2d.errors import UserError

_NUMBER = "[0-9]{1,9}"


@dataclass(frozen=True)
class Shard:
    """Part `index`, from 1, of `of` parts."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from `I/N`; raises `ValueError` that says what is wrong."""
        found = re.fullmatch(rf"({_NUMBER})/({_NUMBER})", text)
        if not found:
            raise ValueError("a shard is I/N, such as 1/4")
        index, of = int(found[1]), int(found[2])
        if not 1 <= index <= of:
            raise ValueError(f"shards of {of} are 1/{of} to {of}/{of}" if of else "there is no shard of none")
        return cls(index, of)

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def places(self, targets: int, questions: int) -> dict[int, range]:
        """The questions, by place, that this shard asks each of its targets; targets by place too.

        All shards of one `of` hold each question of each target once. Raises `UserError` for more shards than there
        are blocks of one question.
        """
        if self.of > targets * questions:
            raise UserError(
                f"--shard {self}: the grid has {targets} targets × {questions} questions, so at most "
                f"{targets * questions} shards; give a smaller N."
            )
        mine = self.index - 1
        if self.of <= targets:
            return {t: range(questions) for t in range(targets) if t * self.of // targets == mine}
        target = mine * targets // self.of
        of_target = [s for s in range(self.of) if s * targets // self.of == target]
        place, parts = of_target.index(mine), len(of_target)
        return {target: range(questions * place // parts, questions * (place + 1) // parts)}


def is_number(text: str) -> bool:
    """Whether a text is a number of devices, or of one: digits, and no more than any machine has."""
    return re.fullmatch(_NUMBER, text) is not None


def numbers_in(text: str) -> list[int]:
    """The numbers of a list such as `0,1,3` or `2,`; raises `ValueError` that says what is wrong."""
    if not re.fullmatch(rf"{_NUMBER}(,{_NUMBER})+|{_NUMBER},", text):
        raise ValueError("give all, a list of numbers (0,1,3, or 1, for one), or how many")
    numbers = [int(part) for part in text.split(",") if part]
    if len(set(numbers)) < len(numbers):
        raise ValueError("a device is named twice")
    return numbers
