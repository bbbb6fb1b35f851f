"""Decoder labels (the keys of records): the text of option values, and parts of a text that may hold brackets."""

from __future__ import annotations

from typing import Any


def value_text(value: Any) -> str:
    """A value as written on the command line, to the last digit: 1 for 1.0, 0.5+0.5+0 for several."""
    if isinstance(value, list | tuple):
        return "+".join(map(value_text, value))
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def split_outside(text: str, separator: str) -> list[str]:
    """The parts of a text between separators that stand outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == separator and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def cut_outside(text: str, separator: str) -> tuple[str, str, str]:
    """`str.partition` at the first separator outside brackets."""
    first, *others = split_outside(text, separator)
    return first, separator if others else "", separator.join(others)
