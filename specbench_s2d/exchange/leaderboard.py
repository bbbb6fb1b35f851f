"""A run as the table that Spec-Bench's leaderboard prints, in LaTeX and Markdown: decoders by suites, per target.

Nothing is computed here: every figure is the tidy table's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from specbench_s2d.analysis.tables.naming import (
    LOSSY_MARK,
    PROJECTED_MARK,
    decoder_title,
    is_projected,
    mark_notes,
    suite_title,
)
from specbench_s2d.analysis.tables.summary import OVERALL
from specbench_s2d.analysis.tables.text import absent, blocks, number, speed_column
from specbench_s2d.config import SUITES
from specbench_s2d.runs.record import BASELINE

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", LOSSY_MARK: r"$^\dagger$",
    PROJECTED_MARK: r"$^\ddagger$", "×": r"$\times$",
    "τ": r"$\tau$", "γ": r"$\gamma$", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
_SPEEDS = {
    "speedup": "decode tokens/s over {}'s on the same questions",
    "speedup_specbench": "Spec-Bench's formula over {}",
}


@dataclass(frozen=True)
class BoardCell:
    """A figure as text; `best`: the highest of its column among lossless decoders."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Board:
    """One target's table: a row per decoder, its title first; `caption` says what the figures are."""

    target: str
    headings: list[str]
    rows: list[tuple[str, list[BoardCell]]]
    caption: str


def boards(table: pd.DataFrame, manifest: Mapping[str, Any]) -> list[Board]:
    """A board per target of the tidy table (their mean too), with the speed-up that the run has: in decode tokens/s,
    or by Spec-Bench's formula where no decode time is known. `manifest` may be empty."""
    speed = speed_column(table)
    suites = [*SUITES, *(s for s in dict.fromkeys(table["suite"]) if s not in (*SUITES, OVERALL))]
    columns = [*((suite, speed) for suite in suites), (OVERALL, "mat"), (OVERALL, speed)]
    headings = [*map(suite_title, suites), "#Mean Accepted Tokens", "Overall"]
    found = []
    for target, rows in blocks(table):
        by_label: dict[str, dict[str, Mapping[str, Any]]] = {}
        for row in rows:
            by_label.setdefault(row["label"], {})[row["suite"]] = row
        best = [_best(by_label, suite, column) for suite, column in columns]
        lines = [
            (
                decoder_title(label, of_label[OVERALL]["lossy"], of_label[OVERALL]["projected"]),
                [
                    BoardCell(_figure(of_label.get(suite, {}).get(column), column), (label, suite) == (top, suite))
                    for (suite, column), top in zip(columns, best, strict=True)
                ],
            )
            for label, of_label in by_label.items()
        ]
        notes = [_caption(target, speed, manifest), *_notes([of_label[OVERALL] for of_label in by_label.values()])]
        found.append(Board(target, headings, lines, " ".join(notes)))
    return found


def _best(by_label: Mapping[str, Mapping[str, Mapping[str, Any]]], suite: str, column: str) -> str | None:
    """The lossless decoder, AR among them and projections not, with the highest figure; None where none has one."""
    figures = {
        label: of_label[suite][column]
        for label, of_label in by_label.items()
        if suite in of_label and _is_rival(of_label[OVERALL]) and not absent(of_label[suite][column])
    }
    return max(figures, key=lambda label: float(figures[label]), default=None)


def _is_rival(row: Mapping[str, Any]) -> bool:
    return not row["lossy"] and not is_projected(row["projected"])


def _figure(value: Any, column: str) -> str:
    text = number(value)
    return text if column == "mat" or absent(value) else f"{text}×"


def _notes(rows: list[Mapping[str, Any]]) -> list[str]:
    """How to read the marks of a board, where it has any."""
    blocks_of = [row["label"] for row in rows if row["tokens_per_pass"] < row["mat"]]
    text = f"Accepted by {', '.join(blocks_of)}: nothing; the figure is the length of a step of several target passes."
    return [
        *mark_notes((row["lossy"] for row in rows), (row["projected"] for row in rows)),
        *([text] if blocks_of else []),
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


def markdown(found: list[Board]) -> str:
    """The boards as Markdown, a section per target."""
    parts = []
    for board in found:
        lines = [_line(["Decoder", *board.headings]), _line(["---", *["---:"] * len(board.headings)])]
        for title, cells in board.rows:
            lines.append(_line([title, *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)]))
        parts += [f"## {board.target}", "\n".join(lines), board.caption]
    return "\n\n".join(parts) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def latex(found: list[Board]) -> str:
    """The boards as LaTeX, a `table*` per target; needs the package booktabs."""
    return "% \\usepackage{booktabs}\n" + "\n".join(_table(board) for board in found)


def _table(board: Board) -> str:
    rows = [
        _row([escape(title), *(rf"\textbf{{{escape(c.text)}}}" if c.best else escape(c.text) for c in cells)])
        for title, cells in board.rows
    ]
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering\small",
            rf"\caption{{{escape(board.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(board.headings)}}}",
            r"\toprule",
            _row(["Decoder", *map(escape, board.headings)]),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def escape(text: str) -> str:
    """Any text as LaTeX prints it."""
    return "".join(_TEX.get(mark, mark) for mark in text)
