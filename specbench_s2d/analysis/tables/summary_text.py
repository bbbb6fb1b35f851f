"""The summary table for those who read it: on a terminal, and as Markdown. Nothing is computed here, only formatted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from specbench_s2d.analysis.metrics.columns import QUALITY, REPETITION, Column, definitions, of_text, shown_columns
from specbench_s2d.analysis.tables.head import head
from specbench_s2d.analysis.tables.naming import mark_notes, row_title, suite_title
from specbench_s2d.analysis.tables.remarks import alarms, decoder_facts, missing_values, whys, within_launches
from specbench_s2d.analysis.tables.summary import OVERALL, Row, by_decoder, rows_by_target, speed_column
from specbench_s2d.analysis.tables.text import (
    NOTHING,
    TextTable,
    absent,
    interval,
    number,
    stands_on,
    terminal_tables,
    with_interval,
)
from specbench_s2d.files import write_whole
from specbench_s2d.measure.quality import METRICS
from specbench_s2d.runs.record import BASELINE

_FORMULA = "speedup_specbench"
_BESIDE = f"Spec-Bench: the speed-up by its own formula, which counts {BASELINE}'s tokens by encoding its text again."
_AFTER_SUITES = 3  # columns of the table by suite that stand behind its suites
_LEAST_SUITE, _SUITES_WIDTH = 4, 44  # characters: of one suite's column, and of all that stand abreast
_WHY = f"Why slower, or faster, than {BASELINE}"


def render(table: pd.DataFrame, doubts: Sequence[str] = ()) -> RenderableType:
    """The terminal's tables: one per target, a row per decoder, a column per suite; before them what a reader must
    know. `doubts`: of the run's manifest."""
    speed = speed_column(table)
    columns, tables = shown_columns(table), []
    for title, rows in rows_by_target(table):
        tables += _in_blocks(_by_suite(title, rows, speed))
        what, scored = of_text(columns, rows)
        tables += [_text_values(f"{title}: {what}", rows, scored)] if scored else []
    shown = of_text(columns, [row for _, rows in rows_by_target(table) for row in rows])[1]
    notes = [_legend(table, speed, shown), *mark_notes(table["lossy"], table["projected"])]
    alarming = alarms(table)
    said = [Text(line, style="bold red" if line in alarming else "yellow") for line in head(table, doubts)]
    reasons = [Text(f"{_WHY}:"), *map(Text, chain.from_iterable(whys(table).values()))] if whys(table) else []
    return Group(*said, terminal_tables(tables, notes), *reasons)


def _by_suite(title: str, rows: Sequence[Row], speed: str) -> TextTable:
    suites = list(dict.fromkeys(row["suite"] for row in rows if row["suite"] != OVERALL))
    shown = [*suites, OVERALL] if len(suites) > 1 else suites
    timed = speed == "speedup"
    lines = []
    for of_label in by_decoder(rows).values():
        overall = of_label[OVERALL]
        cells = [_stacked(of_label[s], speed, "mat") if s in of_label else NOTHING for s in shown]
        bound = NOTHING if absent(overall["percent_of_bound"]) else f"{overall['percent_of_bound']:.0f} %"
        ends = f"{interval(overall[f'{speed}_low'], overall[f'{speed}_high'])}\n{stands_on(overall[f'{speed}_n'])}"
        ends = NOTHING if absent(overall[speed]) else ends
        outcomes = "/".join(str(overall[column]) for column in ("failed", "skipped", "truncated"))
        lines.append(
            [
                row_title(overall), *cells,
                ends, f"{number(overall['tokens_per_s'], '.1f')}\n{bound}" if timed else _stacked(overall, _FORMULA),
                f"{outcomes}\n{number(overall['perplexity'])}",
            ]
        )  # fmt: skip
    rate = "tok/s\nbound" if timed else "Spec-\nBench"
    headings = ["Decoder", *(suite_title(s, short=True) for s in shown), "95 %", rate, "F/S/T\nPPL"]
    return TextTable(headings, lines, title, keep=True)


def _in_blocks(table: TextTable) -> list[TextTable]:
    """The table by suite, or where its suites are too many or their names too long for a terminal, parts of it below
    each other."""
    tail = len(table.headings) - _AFTER_SUITES
    parts: list[list[int]] = [[]]
    used = 0
    for place in range(1, tail):
        width = max(len(table.headings[place]), _LEAST_SUITE) + 1
        if parts[-1] and used + width > _SUITES_WIDTH:
            parts.append([])
            used = 0
        parts[-1].append(place)
        used += width
    if len(parts) == 1:
        return [table]
    parts[-1] += range(tail, len(table.headings))
    columns = [[0, *part] for part in parts]
    blocks = [([table.headings[i] for i in part], [[row[i] for i in part] for row in table.rows]) for part in columns]
    return [
        replace(table, headings=headings, rows=rows, title=table.title if headings is blocks[0][0] else "")
        for headings, rows in blocks
    ]


def _stacked(row: Row, *columns: str) -> str:
    """Values of a row, one above another."""
    return "\n".join(number(row[column]) for column in columns)


def _text_values(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> TextTable:
    """A row per decoder, a column per value of the text, over all suites that have it."""
    lines = [
        [row_title(row), *(number(row[column.name], column.digits) for column in columns)]
        for row in rows if row["suite"] == OVERALL
    ]  # fmt: skip
    return TextTable(["Decoder", *(c.heading for c in columns)], lines, title, keep=True)


def _legend(table: pd.DataFrame, speed: str, of_answers: Sequence[Column]) -> str:
    how = "decode tokens/s" if speed == "speedup" else "tokens/s with the prefill: no decode times are known"
    legend = (
        f"Each cell: speed-up over {BASELINE} ({how}), below it the mean accepted tokens. "
        f"95 %: the interval of the speed-up over all suites, from n questions{within_launches(table['launches'])}. "
        "PPL: perplexity under the target. "
    )
    if speed == "speedup" and table[speed].isna().all():
        legend = f"No speed-up is known, for {BASELINE} has no decode times here (--decoder {BASELINE},…). {legend}"
    beside = "bound: tokens/s as a share of what memory allows." if speed == "speedup" else _BESIDE
    legend += f"{beside} F/S/T: turns failed, skipped, truncated."
    if (table["tokens_per_pass"] < table["mat"]).any():
        legend += " Where a step takes several target passes (mjgd), its block's length stands there: none is accepted."
    if any(column in REPETITION for column in of_answers):
        legend += (
            " distinct-1, -2: an answer's distinct tokens, and pairs of tokens, as a share of all; loops: the share of "
            "answers that end in a block of tokens again and again."
        )
    metrics = {c.heading: c.name.removeprefix(QUALITY) for c in of_answers if c.name.startswith(QUALITY)}
    scales = [f"{heading} 0–{_highest(metric)}" for heading, metric in metrics.items()]
    return f"{legend} Task quality: {', '.join(scales)}." if scales else legend


def _highest(metric: str) -> int:
    return METRICS[metric].highest if metric in METRICS else 1


def markdown(table: pd.DataFrame, doubts: Sequence[str] = ()) -> str:
    """The whole summary table as Markdown: a section per target, the notes, and what each column means. `doubts`: of
    the run's manifest."""
    columns = shown_columns(table)
    parts = ["# Summary", *(f"**{line}**" for line in head(table, doubts))]
    parts += [_every_value(title, rows, columns).markdown_section() for title, rows in rows_by_target(table)]
    parts += [f"[95 %]: intervals from n questions{within_launches(table['launches'])}."]
    parts += mark_notes(table["lossy"], table["projected"])
    reasons = "\n".join(f"- {reason}" for reason in chain.from_iterable(whys(table).values()))
    parts += [f"## {_WHY}", reasons] if reasons else []
    decoders = "\n".join(f"- `{label}`: {text}." for label, text in decoder_facts(table).items())
    notes = "\n".join(f"- {note}" for note in missing_values(table)) or "No value is missing."
    parts += ["## Decoders", decoders, "## Notes", notes, "## What the columns mean", definition_list()]
    return "\n\n".join(parts) + "\n"


def _every_value(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> TextTable:
    headings = ["suite", "decoder", *(c.heading + (" [95 %]" if c.statistic else "") for c in columns)]
    suites = dict.fromkeys(row["suite"] for row in rows if row["suite"] != OVERALL)
    ordered = [row for suite in (*suites, OVERALL) for row in rows if row["suite"] == suite]
    lines = [[row["suite"], row_title(row), *(_value(row, column) for column in columns)] for row in ordered]
    return TextTable(headings, lines, title, left=2)


def _value(row: Row, column: Column) -> str:
    value, low, high, questions = (row.get(name) for name in column.with_interval)
    return with_interval(value, low, high, questions, column.digits)


def definition_list() -> str:
    """The columns' definitions as a Markdown list."""
    return "\n".join(f"- `{column}`: {text}." for column, text in definitions().items())


def write_tables(table: pd.DataFrame, folder: Path, doubts: Sequence[str] = ()) -> None:
    """Write `summary.csv` (every digit, missing as empty) and `summary.md` into an existing folder."""
    write_whole(folder / "summary.csv", table.to_csv(index=False, lineterminator="\n"))
    write_whole(folder / "summary.md", markdown(table, doubts))
