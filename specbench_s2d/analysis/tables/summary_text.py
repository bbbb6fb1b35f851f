"""The summary table for those who read it: on a terminal, and as Markdown. Nothing is computed here, only formatted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd
from rich.console import Group, RenderableType

from specbench_s2d.analysis.metrics.columns import QUALITY, REPETITION, Column, definitions, of_text, shown_columns
from specbench_s2d.analysis.tables.csv_text import csv_text
from specbench_s2d.analysis.tables.head import UNFIT, head
from specbench_s2d.analysis.tables.naming import mark_notes, row_title, suite_title
from specbench_s2d.analysis.tables.remarks import (
    alarms,
    cautions,
    decoder_facts,
    missing_values,
    projections,
    whys,
    within_launches,
)
from specbench_s2d.analysis.tables.summary import (
    MEAN_TARGET,
    OVERALL,
    Row,
    by_decoder,
    rows_by_target,
    speed_column,
)
from specbench_s2d.analysis.tables.text import (
    NOTHING,
    Prose,
    TextTable,
    absent,
    interval,
    number,
    stands_on,
    terminal_tables,
    with_interval,
)
from specbench_s2d.display import code_span, markdown_text
from specbench_s2d.files import write_whole
from specbench_s2d.measure.quality import METRICS
from specbench_s2d.runs.record import BASELINE

_FORMULA = "speedup_specbench"
_BESIDE = f"Spec-Bench: the speed-up by its own formula, which counts {BASELINE}'s tokens by encoding its text again."
_SUMMARY = "summary.md"
_MOST_SAID = 5  # lines before the table at the end of a run
_WHY = f"Why slower, or faster, than {BASELINE}"


def headline(table: pd.DataFrame, doubts: Sequence[str] = ()) -> RenderableType:
    """One table for the end of a run: a row per decoder, a column per suite, of several targets a column per target;
    before it what a reader must know most, after it where the rest is. `doubts`: of the run's manifest."""
    targets, speed = rows_by_target(table), speed_column(table)
    several = len(targets) > 1
    shown = _by_target(targets, speed) if several else _by_suite(*targets[0], speed)
    order = [UNFIT, *alarms(table), *cautions(table), *projections(table)]
    lines = sorted(head(table, doubts), key=lambda line: order.index(line) if line in order else len(order))
    said = _said(table, lines)
    more = [Prose(f"{more_lines(len(said) - _MOST_SAID)}: {_SUMMARY}.")] if len(said) > _MOST_SAID else []
    rest = "suite by suite, task quality" if several else "task quality"
    where = f"The rest ({rest}, costs, why each decoder is slower or faster): {_SUMMARY} and report.html."
    notes = [_legend(table, speed, shown.headings), *mark_notes(table["lossy"], table["projected"]), where]
    return Group(*said[:_MOST_SAID], *more, *_gap(said), terminal_tables([shown], notes))


def more_lines(count: int) -> str:
    """How many lines of a list are elsewhere."""
    return f"{count} more such line{'' if count == 1 else 's'}"


def render(table: pd.DataFrame, doubts: Sequence[str] = ()) -> RenderableType:
    """The terminal's tables: two per target, a row per decoder, a column per suite or per value of the text; before
    them what a reader must know. `doubts`: of the run's manifest."""
    speed = speed_column(table)
    columns, tables = shown_columns(table), []
    for title, rows in rows_by_target(table):
        tables.append(_by_suite(title, rows, speed))
        what, scored = of_text(columns, rows)
        tables += [_text_values(f"{title}: {what}", rows, scored)] if scored else []
    scored = of_text(columns, [row for _, rows in rows_by_target(table) for row in rows])[1]
    headings = [heading for shown in tables for heading in shown.headings]
    notes = [_legend(table, speed, headings, scored), *mark_notes(table["lossy"], table["projected"])]
    notes += [f"{_WHY}: {_SUMMARY}."] if whys(table) else []
    said = _said(table, head(table, doubts))
    return Group(*said, *_gap(said), terminal_tables(tables, notes))


def _gap(said: Sequence[Prose]) -> list[Prose]:
    """The empty line behind remarks."""
    return [Prose("")] if said else []


def _said(table: pd.DataFrame, lines: Sequence[str]) -> list[Prose]:
    """What a reader must know first."""
    alarming = alarms(table)
    return [Prose(line, "bold red" if line in alarming else "yellow") for line in lines]


def _by_suite(title: str, rows: Sequence[Row], speed: str) -> TextTable:
    suites = list(dict.fromkeys(row["suite"] for row in rows if row["suite"] != OVERALL))
    shown = [*suites, OVERALL] if len(suites) > 1 else suites
    return _grid(title, by_decoder(rows), {s: suite_title(s, short=True) for s in shown}, OVERALL, speed)


def _by_target(targets: Sequence[tuple[str, Sequence[Row]]], speed: str) -> TextTable:
    """All suites together: a column per target, their mean last."""
    of_labels: dict[str, dict[str, Row]] = {}
    for title, rows in targets:
        for row in rows:
            if row["suite"] == OVERALL:
                of_labels.setdefault(str(row["label"]), {})[title] = row
    shown = {title: "Mean" if title == MEAN_TARGET else title for title, _ in targets}
    return _grid("All suites together, by target", of_labels, shown, MEAN_TARGET, speed)


def _grid(
    title: str, of_labels: Mapping[str, Mapping[str, Row]], shown: Mapping[str, str], total: str, speed: str
) -> TextTable:
    """A line per decoder: the rows of it that `shown` gives headings, then, where it has a row `total`, that row's
    interval, rate and outcomes. The last of `shown` is left out last."""
    totals = [rows[total] for rows in of_labels.values() if total in rows]
    tail = _tail(totals, speed) if len(totals) == len(of_labels) else {}
    ends = zip(*tail.values(), strict=True) if tail else [()] * len(of_labels)
    lines = [
        [
            row_title(next(iter(rows.values()))),
            *(_stacked(rows[key], speed, "mat") if key in rows else NOTHING for key in shown),
            *last,
        ]
        for rows, last in zip(of_labels.values(), ends, strict=True)
    ]
    headings = ["Decoder", *shown.values(), *tail]
    return TextTable(headings, lines, title, spare=range(len(shown) - 1, 0, -1), elsewhere=_SUMMARY)


def _tail(rows: Sequence[Row], speed: str) -> dict[str, list[str]]:
    """The columns behind those of suites or targets, by their headings; no rate and no perplexity where no row has
    one."""
    timed = speed == "speedup"
    columns = {"95 %": [_ends(row, speed) for row in rows]}
    if not all(absent(row["tokens_per_s" if timed else _FORMULA]) for row in rows):
        rates = [_rate(row) if timed else _stacked(row, _FORMULA) for row in rows]
        columns["tok/s\nbound" if timed else "Spec-Bench"] = rates
    if all(absent(row["perplexity"]) for row in rows):
        return {**columns, "F/S/T": [_outcomes(row) for row in rows]}
    return {**columns, "F/S/T\nPPL": [f"{_outcomes(row)}\n{number(row['perplexity'])}" for row in rows]}


def _ends(row: Row, speed: str) -> str:
    ends = f"{interval(row[f'{speed}_low'], row[f'{speed}_high'])}\n{stands_on(row[f'{speed}_n'])}"
    return NOTHING if absent(row[speed]) else ends


def _rate(row: Row) -> str:
    bound = NOTHING if absent(row["percent_of_bound"]) else f"{row['percent_of_bound']:.0f} %"
    return f"{number(row['tokens_per_s'], '.1f')}\n{bound}"


def _outcomes(row: Row) -> str:
    return "/".join(str(row[column]) for column in ("failed", "skipped", "truncated"))


def _stacked(row: Row, *columns: str) -> str:
    """Values of a row, one above another."""
    return "\n".join(number(row[column]) for column in columns)


def _text_values(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> TextTable:
    """A row per decoder, a column per value of the text, over all suites that have it."""
    lines = [
        [row_title(row), *(number(row[column.name], column.digits) for column in columns)]
        for row in rows if row["suite"] == OVERALL
    ]  # fmt: skip
    return TextTable(["Decoder", *(c.heading for c in columns)], lines, title, elsewhere=_SUMMARY)


def _legend(table: pd.DataFrame, speed: str, headings: Sequence[str], of_answers: Sequence[Column] = ()) -> str:
    """How to read tables of these headings; `of_answers`: the columns of those on the text."""
    how = "decode tokens/s" if speed == "speedup" else "tokens/s with the prefill: no decode times are known"
    legend = (
        f"Each cell: speed-up over {BASELINE} ({how}), below it the mean accepted tokens. "
        f"95 %: the interval of the speed-up over all suites, from n questions{within_launches(table['launches'])}. "
    )
    legend += "PPL: perplexity under the target. " if "F/S/T\nPPL" in headings else ""
    if speed == "speedup" and table[speed].isna().all():
        legend = f"No speed-up is known, for {BASELINE} has no decode times here (--decoder {BASELINE},…). {legend}"
    legend += "bound: tokens/s as a share of what memory allows. " if "tok/s\nbound" in headings else ""
    legend += f"{_BESIDE} " if "Spec-Bench" in headings else ""
    legend += "F/S/T: turns failed, skipped, truncated."
    if (table["tokens_per_pass"] < table["mat"]).any():
        legend += " Where a step takes several target passes (mjgd), its block's length stands there: none is accepted."
    if any(column in REPETITION for column in of_answers):
        legend += (
            " distinct-1, -2: an answer's distinct tokens, and pairs of tokens, as a share of all; loops: the share of "
            "answers that end in a block of tokens again and again."
        )
    metrics = {c.heading: c.name.removeprefix(QUALITY) for c in of_answers if c.name.startswith(QUALITY)}
    scales: dict[int, list[str]] = {}
    for heading, metric in metrics.items():
        scales.setdefault(_highest(metric), []).append(heading)
    said = "; ".join(f"{', '.join(headings)} from 0 to {highest}" for highest, headings in scales.items())
    return f"{legend} Task quality: {said}." if said else legend


def _highest(metric: str) -> int:
    return METRICS[metric].highest if metric in METRICS else 1


def markdown(table: pd.DataFrame, doubts: Sequence[str] = ()) -> str:
    """The whole summary table as Markdown: a section per target, the notes, and what each column means. `doubts`: of
    the run's manifest."""
    columns = shown_columns(table)
    parts = ["# Summary", *(f"**{markdown_text(line)}**" for line in head(table, doubts))]
    parts += [_every_value(title, rows, columns).markdown_section() for title, rows in rows_by_target(table)]
    parts += [f"[95 %]: intervals from n questions{within_launches(table['launches'])}."]
    parts += mark_notes(table["lossy"], table["projected"])
    reasons = "\n".join(f"- {markdown_text(reason)}" for reason in chain.from_iterable(whys(table).values()))
    parts += [f"## {_WHY}", reasons] if reasons else []
    facts = decoder_facts(table).items()
    decoders = "\n".join(f"- {code_span(label)}: {markdown_text(text)}." for label, text in facts)
    missing = (f"- {markdown_text(note)}" for note in missing_values(table))
    notes = "\n".join(missing) or "No value is missing."
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


def write_tables(table: pd.DataFrame, folder: Path, doubts: Sequence[str] = (), safe_csv: bool = False) -> None:
    """Write `summary.csv` (every digit, missing as empty) and `summary.md` into an existing folder. `safe_csv`: no cell
    that a spreadsheet takes for a formula."""
    write_whole(folder / "summary.csv", csv_text(table, safe_csv))
    write_whole(folder / _SUMMARY, markdown(table, doubts))
