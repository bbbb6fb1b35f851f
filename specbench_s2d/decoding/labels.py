"""Text of option values, in decoder labels (the keys of records) and in tables."""

from __future__ import annotations

from typing import Any


def value_text(value: Any) -> str:
    """A value as written on the command line, to the last digit: 1 for 1.0, 0.5+0.5+0 for several."""
    if isinstance(value, list | tuple):
        return "+".join(map(value_text, value))
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
