"""The tidy table as text: on a terminal, as Markdown, as CSV. Nothing is computed here, only formatted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench_s2d.analysis.metrics import quality as grades
from specbench_s2d.analysis.metrics.audit import coverage_of_rows
from specbench_s2d.analysis.metrics.columns import DEFINITIONS
from specbench_s2d.analysis.tables.naming import decoder_title, is_projected, mark_notes, suite_title
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, QUALITY
from specbench_s2d.measure.quality import METRICS
from specbench_s2d.runs.record import BASELINE

NOTHING = "–"
Row = dict[str, Any]

# (column of the tidy table, heading in Markdown, format); `speedup` brings its interval along.
_MARKDOWN = (
    ("questions", "questions", "d"),
    ("tokens_per_answer", "tokens/answer", ".1f"),
    ("tokens_per_s", "tokens/s", ".1f"),
    ("percent_of_bound", "% of bound", ".1f"),
    ("speedup", "speed-up [95 %]", ".2f"),
    ("speedup_e2e", "with prefill", ".2f"),
    ("speedup_specbench", "Spec-Bench's", ".2f"),
    ("speedup_predicted", "predicted", ".2f"),
    ("cost_ratio", "cost ratio [95 %]", ".3f"),
    ("verify_ratio", "target pass", ".2f"),
    ("mat", "MAT [95 %]", ".2f"),
    ("acceptance_rate", "acceptance", ".2f"),
    ("draft_layers_per_token", "draft layers/token", ".2f"),
    ("tokens_per_pass", "tokens/pass", ".2f"),
    ("perplexity", "perplexity [95 %]", ".2f"),
    ("energy_j_per_token", "J/token", ".3f"),
)
_WITH_INTERVALS = ("speedup", "speedup_e2e", "speedup_specbench", "mat", "perplexity", "cost_ratio")
SLOW_BASELINE_PERCENT = 40.0
"""Below this share of the bound, AR is called slow."""
# What became of the row's turns, behind task quality.
_COUNTS = {
    "mismatches": "d",
    "near_ties": "d",
    "auditable_share": ".3f",
    "failed": "d",
    "skipped": "d",
    "truncated": "d",
}


def blocks(table: pd.DataFrame) -> list[tuple[str, list[Row]]]:
    """The rows of each target (of each run, where there are several), with the block's title."""
    runs = "run" in table.columns
    found: dict[str, list[Row]] = {}
    for row in table.to_dict("records"):
        title = f"{row['run']}: {row['target']}" if runs else str(row["target"])
        found.setdefault(title, []).append({str(column): value for column, value in row.items()})
    return list(found.items())


def absent(value: Any) -> bool:
    """Whether a figure is missing, be it None, NaN or pandas' NA."""
    return bool(pd.isna(value))


def number(value: Any, form: str = ".2f") -> str:
    """A figure, or a dash where it is missing."""
    return NOTHING if absent(value) else f"{value:{form}}"


def interval(row: Row, column: str = "speedup", form: str = ".2f") -> str:
    """The 95 % interval of one of a row's figures, of its speed-up by default."""
    if absent(row[f"{column}_low"]):
        return NOTHING
    return f"{row[f'{column}_low']:{form}}–{row[f'{column}_high']:{form}}"


def speed_column(table: pd.DataFrame) -> str:
    """The speed-up to show: over AR in decode tokens/s, or Spec-Bench's where no decode time is known (an imported
    run)."""
    return "speedup" if table["speedup"].notna().any() else "speedup_specbench"


def quality_columns(columns: Iterable[Any]) -> list[str]:
    """Those of task quality, without those of their intervals."""
    names = map(str, columns)
    return [name for name in names if name.startswith(QUALITY) and not name.endswith(("_low", "_high"))]


def render(table: pd.DataFrame) -> RenderableType:
    """The terminal's table: a block per target, a row per decoder, a column per suite."""
    quality = quality_columns(table)
    parts: list[RenderableType] = []
    for title, rows in blocks(table):
        parts.append(_block(title, rows, speed_column(table)))
        scored = [column for column in quality if not all(absent(row[column]) for row in rows)]
        parts += [_quality_block(title, rows, scored)] if scored else []
    how = "decode tokens/s" if speed_column(table) == "speedup" else "Spec-Bench's formula: no decode times are known"
    legend = (
        f"Each cell: speed-up over {BASELINE} ({how}), below it the mean accepted tokens. "
        "95 %: the interval of the speed-up over all suites. PPL: perplexity under the target. "
        "bound: tokens/s as a share of what memory allows. F/S/T: turns failed, skipped, truncated."
    )
    if (table["tokens_per_pass"] < table["mat"]).any():
        legend += " Where a step takes several target passes (mjgd), its block's length stands there: none is accepted."
    if quality:
        legend += f" Task quality: {', '.join(_metric_text(column) for column in quality)}."
    lines = [legend, *mark_notes(table["lossy"], table["projected"])]
    parts += [Text(line, style="dim") for line in lines]
    parts += [Text(line, style="yellow") for line in (*projections(table), *cautions(table))]
    parts += [Text(line, style="bold red") for line in alarms(table)]
    return Group(*parts)


def _block(title: str, rows: list[Row], speed: str) -> Table:
    suites = list(dict.fromkeys(row["suite"] for row in rows if row["suite"] != OVERALL))
    shown = [*suites, OVERALL] if len(suites) > 1 else suites
    block = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, collapse_padding=True)
    block.pad_edge = False
    block.add_column("Decoder", overflow="fold", min_width=9)
    for suite in shown:
        block.add_column(suite_title(suite, short=True), justify="right", no_wrap=True)
    for heading in ("95 %\nPPL", "tok/s\nbound", "F/S/T"):
        block.add_column(heading, justify="right", no_wrap=True)
    for label in dict.fromkeys(row["label"] for row in rows):
        by_suite = {row["suite"]: row for row in rows if row["label"] == label}
        overall = by_suite[OVERALL]
        cells = [_two(by_suite.get(suite), speed, "mat") for suite in shown]
        lost = f"{overall['failed']}/{overall['skipped']}/{overall['truncated']}"
        certain = f"{interval(overall)}\n{number(overall['perplexity'])}"
        bound = NOTHING if absent(overall["percent_of_bound"]) else f"{overall['percent_of_bound']:.0f} %"
        rates = f"{number(overall['tokens_per_s'], '.1f')}\n{bound}"
        block.add_row(decoder_title(label, overall["lossy"], overall["projected"]), *cells, certain, rates, lost)
    return block


def _quality_block(title: str, rows: list[Row], columns: list[str]) -> Table:
    """A row per decoder, a column per metric, over all suites that are scored by it."""
    block = Table(title=f"{title}: task quality", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    block.pad_edge, block.collapse_padding = False, True
    block.add_column("Decoder", overflow="fold", min_width=9)
    for column in columns:
        block.add_column(grades.title(column.removeprefix(QUALITY)), justify="right", no_wrap=True)
    for row in rows:
        if row["suite"] == OVERALL:
            figures = [number(row[column], _digits(column)) for column in columns]
            block.add_row(decoder_title(row["label"], row["lossy"], row["projected"]), *figures)
    return block


def _digits(column: str) -> str:
    """Scores of 0 to 100 with one digit after the point, those of 0 to 1 with two."""
    return ".1f" if grades.is_pooled(column.removeprefix(QUALITY)) else ".2f"


def _metric_text(column: str) -> str:
    metric = column.removeprefix(QUALITY)
    return f"{grades.title(metric)} {'0–100' if grades.is_pooled(metric) else '0–1'}"


def _two(row: Row | None, above: str, below: str) -> str:
    """Two figures of a row, one under the other."""
    return NOTHING if row is None else f"{number(row[above])}\n{number(row[below])}"


def projections(table: pd.DataFrame) -> list[str]:
    """One line per reason that makes rows a projection, with the decoders that it holds for; none where all were
    measured."""
    rows = table[table["projected"].map(is_projected)]
    return [
        f"Projected, not measured ({reason}): {', '.join(dict.fromkeys(part['label']))}."
        for reason, part in rows.groupby("projected", sort=False)
    ]


def cautions(table: pd.DataFrame) -> list[str]:
    """One line where AR is slow on some target, for every speed-up over a slow baseline is flattered; and one per
    target whose outputs the audit can hardly tell apart."""
    return [*_slow_baselines(table), *_coarse_audits(table)]


def _slow_baselines(table: pd.DataFrame) -> list[str]:
    rows = table[(table["label"] == BASELINE) & (table["suite"] == OVERALL)].to_dict("records")
    slow = [r for r in rows if not absent(r["percent_of_bound"]) and r["percent_of_bound"] < SLOW_BASELINE_PERCENT]
    if not slow:
        return []
    shares = ", ".join(f"{row['target']} {row['percent_of_bound']:.0f} %" for row in slow)
    return [
        f"{BASELINE} is slow beside what memory allows ({shares} of the bound): a slow baseline flatters every method."
    ]


def _coarse_audits(table: pd.DataFrame) -> list[str]:
    lines = []
    for title, rows in blocks(table):
        found = coverage_of_rows(r for r in rows if r["suite"] == OVERALL and r["target"] != MEAN_TARGET)
        if found.is_coarse:
            lines.append(
                f"{title}: the audit can tell apart only {found.auditable:,} of {found.tokens:,} tokens: this "
                "dtype is coarse, and elsewhere a wrong token would pass as a near-tie."
            )
    return lines


def alarms(table: pd.DataFrame) -> list[str]:
    """One line per target and decoder that failed or left AR's output without an excuse."""
    lines = []
    for title, rows in blocks(table):
        for row in rows:
            if row["suite"] != OVERALL or row["target"] == MEAN_TARGET:
                continue
            if row["failed"]:
                lines.append(f"{title}, {row['label']}: {row['failed']} of {row['records']} turns failed.")
            if not absent(row["mismatches"]) and row["mismatches"]:
                lines.append(f"{title}, {row['label']}: {row['mismatches']} outputs differ from {BASELINE}'s.")
    return lines


def markdown(table: pd.DataFrame) -> str:
    """The whole tidy table as Markdown: a section per target, the notes, and what each column means."""
    quality = quality_columns(table)
    said = (*projections(table), *alarms(table), *cautions(table))
    parts = ["# Summary", *(f"**{line}**" for line in said)]
    for title, rows in blocks(table):
        parts += [f"## {title}", _markdown_rows(rows, quality)]
    parts += mark_notes(table["lossy"], table["projected"])
    parts += ["## Decoders", _decoders(table), "## Notes", _notes(table), "## What the columns mean", definitions()]
    return "\n\n".join(parts) + "\n"


def _markdown_rows(rows: list[Row], quality: list[str]) -> str:
    counts = [column.replace("_", " ") for column in _COUNTS]
    names = [grades.title(column.removeprefix(QUALITY)) for column in quality]
    headings = ["suite", "decoder", *(heading for _, heading, _ in _MARKDOWN), *names, *counts]
    lines = [_line(headings), _line(["---", "---", *["---:"] * (len(headings) - 2)])]
    suites = list(dict.fromkeys(row["suite"] for row in rows if row["suite"] != OVERALL))
    for suite in [*suites, OVERALL]:
        for row in (row for row in rows if row["suite"] == suite):
            figures = [_figure(row, column, form) for column, _, form in _MARKDOWN]
            figures += [_figure(row, column, ".2f") for column in quality]
            figures += [number(row[column], form) for column, form in _COUNTS.items()]
            lines.append(_line([suite, decoder_title(row["label"], row["lossy"], row["projected"]), *figures]))
    return "\n".join(lines)


def _figure(row: Row, column: str, form: str) -> str:
    text = number(row[column], form)
    if column not in _WITH_INTERVALS and not column.startswith(QUALITY):
        return text
    ends = interval(row, column, form)
    return f"{text} [{ends}]" if ends != NOTHING else text


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _decoders(table: pd.DataFrame) -> str:
    return "\n".join(f"- `{label}`: {text}." for label, text in decoder_facts(table).items())


def decoder_facts(table: pd.DataFrame) -> dict[str, str]:
    """What each label stands for: the decoder's drafts and every option."""
    found = {}
    for label, rows in table.groupby("label", sort=False):
        drafts = ", ".join(dict.fromkeys(rows["draft"].dropna()))
        parts = [f"draft {drafts}"] if drafts else []
        parts += [options] if (options := str(rows["options"].iloc[0])) else []
        found[str(label)] = "; ".join(parts) or "no options"
    return found


def _notes(table: pd.DataFrame) -> str:
    return "\n".join(f"- {note}" for note in missing_figures(table)) or "Every figure is there."


def missing_figures(table: pd.DataFrame) -> list[str]:
    """Why figures are missing, each reason once, with the number of rows it holds for."""
    reasons = Counter(reason for notes in table["notes"].dropna() for reason in str(notes).split("; "))
    rows = len(table)
    return [f"{reason} ({'every row' if n == rows else f'{n} of {rows} rows'})" for reason, n in reasons.items()]


def definitions() -> str:
    """The columns' definitions as a Markdown list."""
    return "\n".join(f"- `{column}`: {text}." for column, text in all_definitions().items())


def all_definitions() -> dict[str, str]:
    """What each column means, each metric of task quality its own."""
    return {**DEFINITIONS, **{f"{QUALITY}{name}": metric.what for name, metric in METRICS.items()}}


def write_tables(table: pd.DataFrame, folder: Path) -> None:
    """Write `summary.csv` (every digit, missing as empty) and `summary.md` into an existing folder."""
    table.to_csv(folder / "summary.csv", index=False, lineterminator="\n")
    (folder / "summary.md").write_text(markdown(table), encoding="utf-8")
