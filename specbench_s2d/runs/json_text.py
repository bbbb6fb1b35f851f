"""JSON as files of a run hold it: objects of numbers that columns can hold and of texts that files can hold."""

from __future__ import annotations

import json
import math
from typing import Any

from specbench_s2d.display import cut, visible

_SHOWN = 41
_DEEPEST = 64
"""Of lists and objects inside each other; those that this package writes are a few deep."""


class JsonError(ValueError):
    """A text that is not such JSON; `line`: from 1, where that is known."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


def parse_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8, with or without a byte order mark.

    Raises `JsonError`, which says in one line what is wrong, for anything else, and for what Python's own reader takes:
    a name twice in an object, NaN and Infinity, numbers beyond 64 bits, halves of surrogate pairs, values nested beyond
    what can be read.
    """
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_int=_int, parse_float=_float)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        if text.count("[") + text.count("{") > _DEEPEST and _is_deeper(value, _DEEPEST):
            raise JsonError(f"lists or objects more than {_DEEPEST} deep")
        return value
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg}, column {error.colno}", error.lineno) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise JsonError(f"not UTF-8 text: {error.reason}", line) from error
    except UnicodeEncodeError as error:
        raise JsonError("half of a surrogate pair (\\ud800 to \\udfff), which no text holds") from error
    except RecursionError as error:
        raise JsonError(f"lists or objects more than {_DEEPEST} deep") from error


def parse_object(content: bytes) -> dict[str, Any]:
    """The same of a JSON object; raises `JsonError` for another value too."""
    value = parse_json(content)
    if not isinstance(value, dict):
        raise JsonError("it is no JSON object")
    return value


def parse_typed_object(content: bytes, untyped: str) -> dict[str, Any]:
    """The same, in a fifth of the time, of an object whose values are held to types afterwards, which refuse all that
    `parse_json` does, but for those of the field `untyped`."""
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_refuse)
        names = len(value) + sum(len(one) for one in value.values() if isinstance(one, dict))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return parse_object(content)
    if text.count('":') != names or "\\ud" in text or "\\uD" in text:  # one named twice, half of a pair, perhaps
        return parse_object(content)
    parse_json(json.dumps(value.get(untyped)).encode())
    return dict(value)


def _is_deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    return not depth or any(
        _is_deeper(one, depth - 1) for one in (value.values() if isinstance(value, dict) else value)
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"{shown(twice)} is named twice")
    return found


def _refuse(constant: str) -> Any:
    raise JsonError(f"{constant} is no number")


def _int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise JsonError(f"the whole number {shown(text)} is beyond 64 bits")
    return int(text)


def _float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise JsonError(f"the number {shown(text)} is beyond 64 bits")
    return value


def shown(text: str) -> str:
    """A text of a file as a message quotes it: in one line, cut short, what cannot be printed as escapes."""
    return visible(cut(text, _SHOWN))
