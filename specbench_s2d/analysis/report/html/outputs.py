"""Model output compared with AR's on the same question, differences marked word by word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from specbench_s2d.analysis.metrics.pairs import Cell, cell_of
from specbench_s2d.analysis.report.html.audit import VERDICTS
from specbench_s2d.analysis.tables.naming import decoder_title, suite_title
from specbench_s2d.runs.columns import VERDICT, Records
from specbench_s2d.runs.record import BASELINE, Record

MOST_EXAMPLES = 12
MOST_CHARACTERS = 3000
CHOICE = (
    f"Shown of each decoder: every mismatch, then the first turn of each suite, at most {MOST_EXAMPLES} turns; "
    f"of each output, at most its first {MOST_CHARACTERS} characters."
)
Part = tuple[bool, str]
"""Whether the words differ from the other side's, and the words."""


@dataclass(frozen=True)
class Example:
    """One turn; `baseline` is None where AR has no output, and empty where `same`."""

    title: str
    verdict: str
    same: bool
    output: list[Part]
    baseline: list[Part] | None


@dataclass(frozen=True)
class Examples:
    """The turns that are shown of one decoder on one target; `left_out` mismatches did not fit."""

    target: str
    decoder: str
    shown: list[Example]
    left_out: int

    @property
    def different(self) -> int:
        return sum(not example.same for example in self.shown)


def examples(records: Iterable[Record]) -> list[Examples]:
    """The chosen turns of every target and decoder but AR, as `CHOICE` says."""
    finished = Records.of(records).finished
    finished = finished.take(finished.known("output_text"))
    of_decoders = finished.take(~finished.equal("label", BASELINE)).groups("target", "label")
    if not of_decoders:
        return []
    chosen = list(map(_chosen, of_decoders))
    ours = Records.joined(chosen)
    baseline = finished.of_value("label", BASELINE)
    theirs = baseline.take(np.isin(baseline.columns.cells[baseline.rows], ours.columns.cells[ours.rows]))
    by_cell, made = {cell_of(r): r for r in theirs}, iter(ours)  # all at once: taking rows of many columns is slow
    return [
        _examples(mine, list(islice(made, len(part))), by_cell) for mine, part in zip(of_decoders, chosen, strict=True)
    ]


def _chosen(records: Records) -> Records:
    """A decoder's turns to show."""
    _, firsts = np.unique(records.codes("suite"), return_index=True)
    places = list(dict.fromkeys([*_mismatches(records).tolist(), *sorted(firsts.tolist())]))
    return records.take(np.array(places[:MOST_EXAMPLES]))


def _mismatches(records: Records) -> NDArray[np.intp]:
    return np.flatnonzero(records.equal(VERDICT, "mismatch"))


def _examples(records: Records, chosen: Sequence[Record], baseline: Mapping[Cell, Record]) -> Examples:
    label, lossy, projected = (records.value(field) for field in ("label", "lossy", "projected"))
    shown = [_example(r, baseline.get(cell_of(r))) for r in chosen]
    left_out = max(0, len(_mismatches(records)) - MOST_EXAMPLES)
    return Examples(records.value("target"), decoder_title(label, bool(lossy), projected), shown, left_out)


def _example(record: Record, baseline: Record | None) -> Example:
    text, other = _clipped(record.output_text), _clipped(baseline.output_text) if baseline else None
    title = f"{suite_title(record.suite)} · {record.question_id} · turn {record.turn + 1}"
    title += f" · repeat {record.repeat + 1}" if record.repeat else ""
    verdict = VERDICTS[record.divergence.verdict] if record.divergence else _unaudited(record)
    if other is None or baseline is None:
        return Example(title, verdict, False, [(False, text)], None)
    if record.output_text == baseline.output_text:
        return Example(title, verdict, True, [(False, text)], [])
    return Example(title, verdict, False, *differences(text, other))


def _unaudited(record: Record) -> str:
    return "projected" if record.projected else "lossy" if record.lossy else "not audited"


def _clipped(text: str | None) -> str:
    return (text or "")[:MOST_CHARACTERS]


def differences(text: str, other: str) -> tuple[list[Part], list[Part]]:
    """Both texts in parts, those marked that the other does not have in that place; the parts add up to the text."""
    left, right = (re.findall(r"\s+|\S+", side) for side in (text, other))
    parts: tuple[list[Part], list[Part]] = ([], [])
    for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for side, piece in zip(parts, (left[a:b], right[c:d]), strict=True):
            if piece:
                side.append((kind != "equal", "".join(piece)))
    return parts
