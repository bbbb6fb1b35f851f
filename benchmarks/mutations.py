"""Mutations for `fuzz.py`: of JSON values, of texts and bytes, and of the words of a command line.

Every function takes a `random.Random` and returns a changed copy; the same draw gives the same change.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class Raw(str):
    """A text that stands in JSON as it is, for what no Python value is written as."""


class Doubled(dict[str, Any]):
    """An object that names its first field twice."""


DEEP = Raw("[" * 100_000 + "]" * 100_000)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, Raw("9" * 5000), 0.5,
    -0.5, 1e-320, 1e300, -1e300, Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("-0"), Raw("01"), "",
    " ", "x", "5", "true", "overall", "mean over targets", "ar", "\ud800", "\0", "\x1b[31mred", "a\nb", "a\rb",
    "[/b]", "[bold]", "=1+1", "a|b", "<b>&", "\\", "../..", "é" * 30, "\u202eabc", "x" * 100_000, [], {}, [None], [[]],
    [1, "a", None], {"a": 1}, {"": {}}, {"a": {"b": []}}, DEEP, Raw('{"a":' * 50_000 + "1" + "}" * 50_000), Raw(""),
    Raw("{"), Raw("'x'"), [0] * 1000, [-1, 2], [2**40],
)  # fmt: skip
JUNK: tuple[bytes, ...] = (
    b"", b"\0", b"\0" * 64, b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"\x1b[2J", b"\r", b"\n", b"\n\n", b"\t", b"{", b"}",
    b"[", b"]", b'"', b"'", b",", b":", b"=", b"#", b"\\", b"\\ud800", b"null", b"NaN", b"-", b"1e999", b"9" * 5000,
    b"[" * 100_000, b'{"a":' * 50_000, b"\xf0\x9f\x92\xa9", "\u2028".encode(), b"[[x]]", b"[x]\n", b'"""',
    b"x" * 100_000,
)  # fmt: skip
CELLS: tuple[str, ...] = (
    "", " ", "0", "-1", "1", "5.99", "6", "12", "1e9", "1e-320", "1e308", "1e999", "nan", "inf", "9" * 5000, "1_0",
    "x", "x" * 100_000, "*", "a=b", "a=", "=", "a=1,a=2", ",", "s2d", "spec-bench", "vicuna-7b", "overall",
    "\u0663", "mean over targets", "speedup", "mean_accepted_tokens", "mat", "sd", "ar", "head:", "sorted",
    "SoFT", "a\nb", "\0", "\x1b[2J", "\u202ex", "[/b]", "=1+1", "|", "\u00e9", "none", "NA", "True",
)  # fmt: skip


def to_json(value: Any) -> str:
    """A value as JSON in one line; floats that are no numbers, halves of characters and `Raw` texts stand in it too."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        fields = [f"{json.dumps(name)}:{to_json(one)}" for name, one in value.items()]
        return "{" + ",".join([*fields, *(fields[:1] if isinstance(value, Doubled) else [])]) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(to_json, value)) + "]"
    return json.dumps(value)


def changed_value(value: Any, coin: random.Random) -> Any:
    """A value with one thing changed at a random place in it."""
    changed = copy.deepcopy(value)
    holders = list(_holders(changed))
    if not holders or coin.random() < 0.02:
        return coin.choice(VALUES)
    holder = coin.choice(holders)
    key = coin.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    operation = coin.choice((_replace, _replace, _replace, _nudge, _nudge, _remove, _rename, _swap, _double))
    operation(holder, key, coin)
    if coin.random() < 0.03 and isinstance(changed, dict):
        return Doubled(changed)
    return changed


def _holders(value: Any) -> Iterator[Any]:
    """Objects and lists with anything in them, the outer ones first."""
    if isinstance(value, dict | list) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _replace(holder: Any, key: Any, coin: random.Random) -> None:
    holder[key] = coin.choice(VALUES)


def _nudge(holder: Any, key: Any, coin: random.Random) -> None:
    """Another value of the same type."""
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, int | float):
        holder[key] = coin.choice(
            (-value, value + 1, value - 1, value * 10**6, value / 3, value * 10**12, float(value))
        )
    elif isinstance(value, str):
        holder[key] = coin.choice((value + value, value[1:], value[:-1], value.upper(), value + " ", value + "\n", ""))
    elif isinstance(value, list):
        holder[key] = coin.choice((value[1:], value[:-1], value + value, value[::-1], [value], []))
    else:
        _replace(holder, key, coin)


def _remove(holder: Any, key: Any, coin: random.Random) -> None:
    del holder[key]


def _rename(holder: Any, key: Any, coin: random.Random) -> None:
    if isinstance(holder, dict):
        holder[coin.choice((key.upper(), f"{key} ", "x", "", "\ud800", "overall"))] = holder.pop(key)
    else:
        _replace(holder, key, coin)


def _swap(holder: Any, key: Any, coin: random.Random) -> None:
    """The values of two places."""
    other = coin.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


def _double(holder: Any, key: Any, coin: random.Random) -> None:
    """The value inside another list or object of its kind."""
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[key] = coin.choice(([holder[key]], {"value": holder[key]}, str(holder[key])))


def changed_bytes(content: bytes, coin: random.Random) -> bytes:
    """A file's bytes with one thing changed."""
    operation: Callable[[bytes, random.Random], bytes] = coin.choice(
        (
            _flipped,
            _flipped,
            _cut_short,
            _without_part,
            _with_junk,
            _with_junk,
            _with_lines_moved,
            _with_lines_moved,
            _other,
        )
    )
    return operation(content, coin)


def changed_cells(content: bytes, coin: random.Random) -> bytes:
    """A CSV file with one to three cells, rows or columns changed, or any bytes."""
    if coin.random() < 0.25:
        return changed_bytes(content, coin)
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    width = len(rows[0])
    for _ in range(coin.choice((1, 1, 1, 2, 3))):
        at, column, kind = coin.randrange(len(rows)), coin.randrange(width), coin.randrange(9)
        if kind < 5:
            rows[at][column : column + 1] = [coin.choice(CELLS)]
        elif kind == 5:
            rows[at][column : column + 1] = rows[coin.randrange(len(rows))][column : column + 1]
        elif kind == 6:
            rows[at], rows[-1] = rows[-1], rows[at]
        elif kind == 7:
            rows[at : at + 1] = coin.choice(([[]], [rows[at]] * 2, rows[at - 1 : at]))
        else:
            times = coin.choice((0, 2))
            rows = [row[:column] + row[column : column + 1] * times + row[column + 1 :] for row in rows]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=coin.choice(("\n", "\r\n", "\n\n"))).writerows(rows)
    return text.getvalue().encode()


def _place(content: bytes, coin: random.Random) -> int:
    return coin.randrange(len(content) + 1)


def _flipped(content: bytes, coin: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(coin.choice((1, 1, 1, 4, 16)) if content else 0):
        changed[coin.randrange(len(content))] = coin.choice((coin.randrange(256), coin.randrange(32, 127)))
    return bytes(changed)


def _cut_short(content: bytes, coin: random.Random) -> bytes:
    return content[: _place(content, coin)]


def _without_part(content: bytes, coin: random.Random) -> bytes:
    start = _place(content, coin)
    return content[:start] + content[start + coin.choice((1, 2, 8, 50, 500)) :]


def _with_junk(content: bytes, coin: random.Random) -> bytes:
    start = coin.choice((0, _place(content, coin), len(content)))
    return content[:start] + coin.choice(JUNK) + content[start:]


def _with_lines_moved(content: bytes, coin: random.Random) -> bytes:
    """A line removed, doubled, moved, or in place of another; or all ends of lines changed."""
    lines = content.split(b"\n")
    one, other = coin.randrange(len(lines)), coin.randrange(len(lines))
    kind = coin.randrange(5)
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines.insert(other, lines[one])
    elif kind == 2:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 3:
        lines[other] = lines[one]
    return (b"\r\n" if kind == 4 else b"\n").join(lines)


def _other(content: bytes, coin: random.Random) -> bytes:
    """Something else altogether."""
    return coin.choice((*JUNK, b"{}\n", b"[]\n", b"null\n", b"1\n", b'"x"\n', content + content, bytes(range(256))))


WORDS = (
    "", " ", "-", "--", "x", "nowhere", "nowhere/x.html", "a", "b", ".", "..", "/proc/nope", "run.toml",
    "a/records.jsonl", "x" * 300, "a\0b", "a\nb", "\x1b[31m", "[/b]", "é", "\udcff", "0", "1", "-1", "2", "1.5", "1e4",
    "1e999", "nan", "inf", "-inf", "9" * 30, "9" * 5000, "true", "none", "all", "0,1", "1/2", "0/0", "2/1",
    "1/999999999999", "cpu", "cuda:99", "float32", "bf16", "ar", "ar,sd", "sd:gamma=3", "sd:gamma=1000000",
    "sd:gamma=-1", "sd:gamma=", "sd:", ":", "=", "a=b", "s2d:thresholds=0.5+nan", "first(lookup|suffix)", "first(",
    "qa", "math", "overall", "custom/x", "published:s2d", "published:x", "demo-tiny", "demo-tiny=demo-draft", "shape:x",
    "hub:a/b", "owner/name", "questions.jsonl", "answers.jsonl", "chats.jsonl", "out", "out.csv", "out.html",
    "embedded", "spec-bench", "json", "csv", "{}", "'", '"', "$(x)", "*",
)  # fmt: skip


def changed_words(words: Sequence[str], flags: Sequence[str], coin: random.Random) -> list[str]:
    """A command line with one to three words changed, added or taken away; `flags`: those to add."""
    changed = list(words)
    for _ in range(coin.choice((1, 1, 2, 3))):
        at, kind = coin.randrange(1, len(changed) + 1), coin.randrange(6)
        if kind == 0 and at < len(changed):
            del changed[at]
        elif kind == 1 and at < len(changed):
            changed[at] = coin.choice(WORDS)
        elif kind == 2 and at < len(changed):
            changed.insert(at, changed[at])
        elif kind == 3 and at < len(changed):
            text = changed[at]
            changed[at] = coin.choice((text.upper(), text[:-1], f"{text}x", f"{text}={coin.choice(WORDS)}", text[1:]))
        else:
            changed[at:at] = [coin.choice(flags), *([coin.choice(WORDS)] if coin.random() < 0.8 else [])]
    return changed
