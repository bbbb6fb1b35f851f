"""A run as the table that Spec-Bench's leaderboard prints: decoders by suites, per target.

Nothing is computed here: every value is the summary table's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from specbench_s2d.analysis.tables.naming import is_projected, mark_notes, row_title, suite_title
from specbench_s2d.analysis.tables.summary import OVERALL, Row, by_decoder, rows_by_target, speed_column
from specbench_s2d.analysis.tables.text import Entry, TextTable, absent, interval, number
from specbench_s2d.config import SUITES
from specbench_s2d.runs.record import BASELINE

_SPEEDS = {
    "speedup": "decode tokens/s over {}'s on the same questions",
    "speedup_e2e": "tokens/s with the prefill included over {}'s on the same questions",
}


def boards(table: pd.DataFrame, manifest: Mapping[str, Any], paper: bool = False) -> list[TextTable]:
    """A board per target of the summary table (their mean too), with the speed-up that the run has: in decode tokens/s,
    or with the prefill included where no decode time is known; the best of each column in bold. For a `paper`,
    intervals stand below their values, and a column without any is left out. `manifest` may be empty."""
    speed = speed_column(table)
    suites = [*SUITES, *(s for s in dict.fromkeys(table["suite"]) if s not in (*SUITES, OVERALL))]
    titles = {(suite, speed): suite_title(suite) for suite in suites}
    titles |= {(OVERALL, "mat"): "#Mean Accepted Tokens", (OVERALL, speed): "Overall"}
    found = []
    for target, rows in rows_by_target(table):
        decoders = by_decoder(rows)
        columns = [at for at in titles if not paper or any(_has(of_label, *at) for of_label in decoders.values())]
        headings = ["Decoder", *(titles[at] for at in columns)]
        best = [_best(decoders, suite, column) for suite, column in columns]
        lines: list[list[str | Entry]] = []
        for label, of_label in decoders.items():
            title = row_title(of_label[OVERALL])
            texts = [_value(of_label.get(suite, {}), column, paper) for suite, column in columns]
            lines.append([title, *(Entry(text, label == top) for text, top in zip(texts, best, strict=True))])
        bracketed = paper and any(_ends(row, column) for row in rows for column in ("mat", speed))
        below = ["Below a value: its 95 % interval, where it has one."] if bracketed else []
        notes = [
            _caption(target, speed, manifest),
            *below,
            *_notes([of_label[OVERALL] for of_label in decoders.values()]),
        ]
        found.append(TextTable(headings, lines, target, " ".join(notes)))
    return found


def _best(decoders: Mapping[str, Mapping[str, Row]], suite: str, column: str) -> str | None:
    """The lossless decoder with the highest value, projections left out; None where none has one above AR's."""
    values = {
        label: float(of_label[suite][column])
        for label, of_label in decoders.items()
        if _is_rival(of_label[OVERALL]) and _has(of_label, suite, column)
    }
    alone = values.pop(BASELINE, -math.inf)
    best = max(values, key=values.__getitem__, default=None)
    return best if best is not None and values[best] > alone else None


def _has(of_label: Mapping[str, Row], suite: str, column: str) -> bool:
    return suite in of_label and not absent(of_label[suite][column])


def _ends(row: Row, column: str) -> tuple[float, float] | None:
    low, high = (row.get(f"{column}_{end}") for end in ("low", "high"))
    return None if low is None or high is None or absent(low) or absent(high) else (low, high)


def _is_rival(row: Row) -> bool:
    return not row["lossy"] and not is_projected(row["projected"])


def _value(row: Row, column: str, intervals: bool) -> str:
    """A value, and below it its interval, where it has one and that is asked for; AR's speed-up has none."""
    value = row.get(column)
    text = number(value) if column == "mat" or absent(value) else f"{number(value)}×"
    ends = _ends(row, column) if intervals and row.get("label") != BASELINE else None
    return f"{text}\n{interval(*ends)}" if ends else text


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
    bold = f"Bold: the best lossless decoder, where it is above {BASELINE}."
    return f"{target}: speed-up, {_SPEEDS[speed].format(BASELINE)}; {', '.join(facts)}. {bold}"


def markdown(found: Iterable[TextTable]) -> str:
    """The boards as Markdown, a section per target."""
    return "\n\n".join(board.markdown_section() for board in found) + "\n"


def latex(found: Sequence[TextTable]) -> str:
    """The boards as LaTeX, a `table*` per target with a label of its own; needs the package booktabs."""
    slugs = [re.sub(r"[^a-z0-9]+", "-", board.title.lower()).strip("-") for board in found]
    labels = [f"tab:{slug}" + (f"-{n}" if slugs.count(slug) > 1 else "") for n, slug in enumerate(slugs, start=1)]
    tables = (board.latex(label) for board, label in zip(found, labels, strict=True))
    return "% \\usepackage{booktabs}\n" + "\n".join(tables)
