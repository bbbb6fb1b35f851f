"""A run as tables of Spec-Bench's leaderboard shape, in Markdown and LaTeX: a block per target, a row per decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from specbench_s2d.analysis.names import LOSSY_MARK, suite_title
from specbench_s2d.analysis.tables import Row, absent, blocks
from specbench_s2d.analysis.tidy import MEAN_TARGET, OVERALL
from specbench_s2d.bench.records import BASELINE

Speedup = Literal["speedup_specbench", "speedup", "speedup_e2e"]
_FORMULAS = {
    "speedup_specbench": "speed-ups by Spec-Bench's formula",
    "speedup": "speed-ups of decode rates",
    "speedup_e2e": "speed-ups with the prefill",
}
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", LOSSY_MARK: r"$^\dagger$", "τ": r"$\tau$", "γ": r"$\gamma$",
    "–": "--", "×": r"$\times$",
}  # fmt: skip


@dataclass(frozen=True)
class Board:
    """One target's block: cells as text, and which of them is its column's best among the lossless decoders."""

    target: str
    headings: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]]


def boards(table: pd.DataFrame, speedup: Speedup = "speedup_specbench") -> list[Board]:
    """A tidy table's targets as blocks: decoder, a speed-up per suite, mean accepted tokens, the overall speed-up."""
    return [_board(title, rows, speedup) for title, rows in blocks(table) if title != MEAN_TARGET]


def caption(table: pd.DataFrame, manifest: Mapping[str, Any], speedup: Speedup = "speedup_specbench") -> str:
    """On what it ran, how speed-ups were reckoned, and what the marks mean."""
    settings, environment = manifest["identity"]["settings"], manifest.get("environment", {})
    where = (environment.get("gpu") or {}).get("name") or (environment.get("cpu") or {}).get("model")
    facts = [str(fact) for fact in (where or "unknown device", settings.get("dtype")) if fact]
    facts.append(f"temperature {settings['temperature']:g}")
    marks = f" {LOSSY_MARK}: lossy, may change the output." if table["lossy"].any() else ""
    return f"{', '.join(facts)}; {_FORMULAS[speedup]} over {BASELINE}. Best lossless decoder in bold.{marks}"


def markdown(found: Sequence[Board], text: str) -> str:
    """The blocks as Markdown tables, the caption above."""
    parts = [text]
    for board in found:
        rule = ["---", *["---:"] * (len(board.headings) - 1)]
        rows = _marked(board, lambda cell: f"**{cell}**")
        lines = [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (board.headings, rule, *rows)
        ]
        parts += [f"### {board.target}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def latex(found: Sequence[Board], text: str) -> str:
    """The blocks as one LaTeX table (booktabs), the caption below."""
    columns = len(found[0].headings)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\begin{{tabular}}{{l{'r' * (columns - 1)}}}",
        "\\toprule",
        _latex_row([escape(heading) for heading in found[0].headings]),
    ]
    for board in found:
        rows = _marked(_escaped(board), lambda cell: f"\\textbf{{{cell}}}")
        title = f"\\multicolumn{{{columns}}}{{l}}{{\\textit{{{escape(board.target)}}}}} \\\\"
        lines += ["\\midrule", title, *map(_latex_row, rows)]
    lines += ["\\bottomrule", "\\end{tabular}", f"\\caption{{{escape(text)}}}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in text)


def _board(title: str, rows: list[Row], speedup: Speedup) -> Board:
    suites = list(dict.fromkeys(row["suite"] for row in rows if row["suite"] != OVERALL))
    headings = ["Decoder", *map(suite_title, suites), "#Mean Accepted Tokens", "Overall"]
    cells, values, lossless = [], [], []
    for label in dict.fromkeys(row["label"] for row in rows):
        of_suite = {row["suite"]: row for row in rows if row["label"] == label}
        overall = of_suite[OVERALL]
        figures = [(of_suite.get(suite) or {}).get(speedup) for suite in suites]
        figures += [overall["mat"], overall[speedup]]
        name = f"{label} {LOSSY_MARK}" if overall["lossy"] else label
        times = [f"{value:.2f}x" if not absent(value) else "–" for value in figures]
        times[-2] = "–" if absent(overall["mat"]) else f"{overall['mat']:.2f}"
        cells.append([name, *times])
        values.append(figures)
        lossless.append(not overall["lossy"])
    return Board(title, headings, cells, _best(values, lossless))


def _best(values: Sequence[Sequence[Any]], lossless: Sequence[bool]) -> set[tuple[int, int]]:
    """(row, column) of the highest figure of each column among the lossless rows."""
    best = set()
    for column in range(len(values[0]) if values else 0):
        known = [(row[column], i) for i, row in enumerate(values) if lossless[i] and not absent(row[column])]
        if known:
            best.add((max(known)[1], column + 1))
    return best


def _marked(board: Board, bold: Callable[[str], str]) -> list[list[str]]:
    return [
        [bold(cell) if (i, j) in board.best else cell for j, cell in enumerate(row)] for i, row in enumerate(board.rows)
    ]


def _escaped(board: Board) -> Board:
    return Board(board.target, board.headings, [[escape(cell) for cell in row] for row in board.rows], board.best)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"
