"""Names and numbers as people write them: which known name is meant, which are near, what `10k` counts, how long a time
is."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from types import NoneType
from typing import Any, Literal, get_args, get_origin

DTYPES = {
    "bf16": "bfloat16", "fp16": "float16", "f16": "float16", "half": "float16", "fp32": "float32", "f32": "float32",
    "float": "float32", "single": "float32",
}  # fmt: skip
"""Other names of the number formats of weights."""
_LEAST = 3
"""Letters of a beginning that stands for a whole name."""
_NEAR, _ALIKE, _VERY_ALIKE = 3, 0.5, 0.65
"""Names that are suggested at most, and how alike they are at least: known names, and other names of theirs."""
_COUNT = re.compile(r"(\d+(?:\.\d+)?)(?:e\+?(\d{1,2}))?([kmb]?)", re.IGNORECASE)
_SCALES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def meant(name: str, known: Iterable[str], others: Mapping[str, str] | None = None) -> str | None:
    """The one known name that `name` can stand for, None where there is none or several.

    That is the name itself; else the one that differs in upper case, hyphens, underscores or spaces alone; else what
    `others` (other names, each with the known one) says; else the only one that begins so, from three letters on.
    """
    names = list(known)
    if name in names:
        return name
    given, more = _plain(name), others or {}
    alike = {one for one in names if _plain(one) == given}
    alike = alike or {to for other, to in more.items() if _plain(other) == given}
    if not alike and len(given) >= _LEAST:
        alike = {one for one in names if _plain(one).startswith(given)}
    return alike.pop() if len(alike) == 1 else None


def near_names(name: str, known: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """A question with the known names nearest to what was given, a space before it; nothing where none is near."""
    given, more = _plain(name), others or {}
    pairs = [
        *((_plain(to), to, _ALIKE) for to in sorted(known)),
        *((_plain(o), to, _VERY_ALIKE) for o, to in more.items()),
    ]
    begin = [to for plain, to, _ in pairs if len(given) >= _LEAST and plain.startswith(given)]
    scored = [(difflib.SequenceMatcher(None, plain, given).ratio(), to, least) for plain, to, least in pairs]
    alike = [to for ratio, to, least in sorted(scored, key=lambda one: -one[0]) if ratio >= least]
    near = list(dict.fromkeys([*begin, *alike]))[:_NEAR]
    *others_near, last = [repr(one) for one in near] or [""]
    return f" Did you mean {' or '.join(filter(None, (', '.join(others_near), last)))}?" if near else ""


def choice(annotation: Any, given: Any, others: Mapping[str, str] | None = None) -> Any:
    """A value given to a field that takes one of some texts (a `Literal`, or one beside None), as the field spells it;
    anything else as it is."""
    parts = get_args(annotation)
    kind = parts[0] if len(parts) == 2 and NoneType in parts else annotation
    if not isinstance(given, str) or get_origin(kind) is not Literal:
        return given
    return meant(given, get_args(kind), others) or given


def whole_number(given: Any) -> Any:
    """The number that `1e4`, `10k`, `1.5M`, `10_000` or `10,000` means, as int; anything else as it is.

    k, M and B are thousands, millions and billions.
    """
    if not isinstance(given, str):
        return given
    text = given.strip().replace("_", "")
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    if not (found := _COUNT.fullmatch(text)):
        return given
    digits, exponent, scale = found.groups()
    number = Fraction(digits) * 10 ** int(exponent or 0) * _SCALES[scale.lower()]
    return int(number) if number.denominator == 1 else given


def small_enough(value: Any) -> Any:
    """The value; raises `ValueError` for a number that the files of a run cannot hold."""
    if isinstance(value, int | float) and abs(value) >= 2**63:
        raise ValueError("Input should be less than 2^63")
    return value


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count(number: float) -> str:
    """A number of parameters or tokens to three digits: 631 k, 12.3 M, 6.74 B; below 10,000 to the last."""
    if number < 10_000:
        return f"{number:,.0f}"
    scale, sign = next((scale, sign) for scale, sign in ((1e9, "B"), (1e6, "M"), (1e3, "k")) if number >= scale)
    digits = max(0, 2 - int(math.log10(number / scale)))
    return f"{number / scale:.{digits}f} {sign}"


def _plain(name: str) -> str:
    """A name without what people write in several ways."""
    return re.sub(r"[-_\s]+", "", name).casefold()
