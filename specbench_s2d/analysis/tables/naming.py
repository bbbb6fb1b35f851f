"""How suites and decoders are called in tables and plots, in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from specbench_s2d.decoding.labels import cut_outside
from specbench_s2d.display import visible
from specbench_s2d.suites import suite_headings

LOSSY_MARK = "†"
LOSSY_NOTE = f"{LOSSY_MARK} lossy: may change the output; read beside perplexity and quality."
PROJECTED_MARK = "‡"
PROJECTED_NOTE = (
    f"{PROJECTED_MARK} projected: random weights or scripted acceptances; a measure of passes, not of answers, and no "
    "measured run of such models."
)
PAIRS = "other pairs"
FIRST = "first"

_OVERALL = {"overall": ("Overall", "All")}
_SYMBOLS = {"tau": "τ", "gamma": "γ"}


def suite_title(suite: str, short: bool = False) -> str:
    """A heading for a suite; one that is not Spec-Bench's keeps its name."""
    return visible((_OVERALL.get(suite) or suite_headings(suite))[short])


def decoder_title(label: str, lossy: bool, projected: str | None = None) -> str:
    """The label, with the marks of a lossy decoder and of a projection."""
    marks = [LOSSY_MARK] if lossy else []
    return " ".join([visible(label), *marks, *([PROJECTED_MARK] if is_projected(projected) else [])])


def row_title(row: Mapping[Any, Any]) -> str:
    """The same of a table's row."""
    return decoder_title(row["label"], row["lossy"], row["projected"])


def is_projected(reason: object) -> bool:
    """Whether a table's cell says what makes its row a projection; a missing one may be NaN."""
    return isinstance(reason, str)


def mark_notes(lossy: Iterable[bool], projected: Iterable[object]) -> list[str]:
    """What the marks mean, of those that a table bears."""
    return [*([LOSSY_NOTE] if any(lossy) else []), *([PROJECTED_NOTE] if any(map(is_projected, projected)) else [])]


def option_symbol(option: str) -> str:
    """An option as the papers write it."""
    return _SYMBOLS.get(option, option)


def method_family(decoder: str) -> str:
    """The method that a decoder belongs to: `s2d` for s2d-tree too; `PAIRS` for a drafter+verifier without a name, and
    `FIRST` for all `first(a|b)`."""
    if decoder.startswith(FIRST):
        return FIRST
    return PAIRS if "+" in decoder else decoder.partition("-")[0]


def without_option(label: str, option: str) -> str:
    """The label less one option: what the decoders of a sweep over that option have in common."""
    name, _, options = cut_outside(label, ":")
    rest = ",".join(part for part in options.split(",") if part and not part.startswith(f"{option}="))
    return f"{name}:{rest}" if rest else name
