"""A run as the table that Spec-Bench's leaderboard prints: decoders by suites, per target.

Nothing is computed here: every value is the summary table's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from specbench_s2d.analysis.tables.naming import is_projected, mark_notes, row_title, suite_title
from specbench_s2d.analysis.tables.summary import OVERALL, Row, by_decoder, rows_by_target, speed_column
from specbench_s2d.analysis.tables.text import Entry, TextTable, absent, number
from specbench_s2d.config import SUITES
from specbench_s2d.runs.record import BASELINE

_SPEEDS = {
    "speedup": "decode tokens/s over {}'s on the same questions",
    "speedup_specbench": "Spec-Bench's formula over {}",
}


def boards(table: pd.DataFrame, manifest: Mapping[str, Any]) -> list[TextTable]:
    """A board per target of the summary table (their mean too), with the speed-up that the run has: in decode tokens/s,
    or by Spec-Bench's formula where no decode time is known; the best of each column in bold. `manifest` may be
    empty."""
    speed = speed_column(table)
    suites = [*SUITES, *(s for s in dict.fromkeys(table["suite"]) if s not in (*SUITES, OVERALL))]
    columns = [*((suite, speed) for suite in suites), (OVERALL, "mat"), (OVERALL, speed)]
    headings = ["Decoder", *map(suite_title, suites), "#Mean Accepted Tokens", "Overall"]
    found = []
    for target, rows in rows_by_target(table):
        decoders = by_decoder(rows)
        best = [_best(decoders, suite, column) for suite, column in columns]
        lines: list[list[str | Entry]] = []
        for label, of_label in decoders.items():
            title = row_title(of_label[OVERALL])
            texts = [_value(of_label.get(suite, {}).get(column), column) for suite, column in columns]
            lines.append([title, *(Entry(text, label == top) for text, top in zip(texts, best, strict=True))])
        notes = [_caption(target, speed, manifest), *_notes([of_label[OVERALL] for of_label in decoders.values()])]
        found.append(TextTable(headings, lines, target, " ".join(notes)))
    return found


def _best(decoders: Mapping[str, Mapping[str, Row]], suite: str, column: str) -> str | None:
    """The lossless decoder, AR among them and projections not, with the highest value; None where none has one."""
    values = {
        label: float(of_label[suite][column])
        for label, of_label in decoders.items()
        if suite in of_label and _is_rival(of_label[OVERALL]) and not absent(of_label[suite][column])
    }
    return max(values, key=values.__getitem__, default=None)


def _is_rival(row: Row) -> bool:
    return not row["lossy"] and not is_projected(row["projected"])


def _value(value: Any, column: str) -> str:
    text = number(value)
    return text if column == "mat" or absent(value) else f"{text}×"


def _notes(rows: list[Row]) -> list[str]:
    """How to read the marks of a board, where it has any."""
    of_blocks = [row["label"] for row in rows if row["tokens_per_pass"] < row["mat"]]
    text = f"Accepted by {', '.join(of_blocks)}: nothing; the value is the length of a step of several target passes."
    return [
        *mark_notes((row["lossy"] for row in rows), (row["projected"] for row in rows)),
        *([text] if of_blocks else []),
    ]


def _caption(target: str, speed: str, manifest: Mapping[str, Any]) -> str:
    settings = manifest.get("identity", {}).get("settings", {})
    environment = manifest.get("environment") or {}
    device = (environment.get("gpu") or {}).get("name") or (environment.get("cpu") or {}).get("model")
    temperature = settings.get("temperature")
    facts = [
        f"device {device or 'not known'}",
        f"dtype {settings.get('dtype') or 'not known'}",
        f"temperature {'not known' if temperature is None else format(temperature, 'g')}",
    ]
    return f"{target}: speed-up, {_SPEEDS[speed].format(BASELINE)}; {', '.join(facts)}. Best lossless decoder in bold."


def markdown(found: Iterable[TextTable]) -> str:
    """The boards as Markdown, a section per target."""
    return "\n\n".join(board.markdown_section() for board in found) + "\n"


def latex(found: Iterable[TextTable]) -> str:
    """The boards as LaTeX, a `table*` per target; needs the package booktabs."""
    return "% \\usepackage{booktabs}\n" + "\n".join(board.latex() for board in found)
