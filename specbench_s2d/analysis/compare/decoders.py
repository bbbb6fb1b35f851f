"""The decoders of one run, compared with one of them: speed, accepted length, and what becomes of the text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from specbench_s2d.analysis.compare.comparison import Comparison
from specbench_s2d.analysis.metrics.acceptance import MAT
from specbench_s2d.analysis.metrics.columns import QUALITY, columns_of
from specbench_s2d.analysis.metrics.pairs import Pairs, latest
from specbench_s2d.analysis.metrics.quality import PERPLEXITY, quality_statistic
from specbench_s2d.analysis.metrics.repetition import STATISTICS as REPETITION
from specbench_s2d.analysis.metrics.speed import LENGTH, SPEEDUP, speedup
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.analysis.tables.naming import row_title, suite_title
from specbench_s2d.analysis.tables.remarks import within_launches
from specbench_s2d.analysis.tables.summary import (
    MEAN_TARGET,
    OVERALL,
    Row,
    by_decoder,
    row_groups,
    rows_by_target,
    summary_table,
)
from specbench_s2d.analysis.tables.text import NOTHING, TextTable, absent, number, stands_on, with_interval
from specbench_s2d.errors import UserError, find_name
from specbench_s2d.runs.record import BASELINE, Record

_RATIOS = {"mat_ratio": MAT, "perplexity_ratio": PERPLEXITY, "length_ratio": LENGTH}
_RATIO_HEADINGS = ("MAT × [95 %]", "PPL × [95 %]", "Length × [95 %]")
_DIFFERENCE = "_difference"
_METRICS_ABREAST = 5  # as many as fit a terminal of 100 columns, and all of translation and summarization
_ENDS = ("", "_low", "_high", "_n")


def compare_decoders(records: Iterable[Record], against: str) -> Comparison:
    """Every decoder compared with the label `against`, per target, suite and mean over targets.

    Columns: target, label, lossy, projected, suite, against, launches, pairs, speedup (over AR), mat, relative_speed,
    mat_ratio, perplexity_ratio, length_ratio, quality_*_difference and, of lossy decoders, distinct_1_difference,
    distinct_2_difference, loop_share_difference, notes (why a value is missing); ratios and differences with their 95 %
    intervals, on the cells that both finished. Raises `UnknownNameError` for a label that
    the run does not have, `UserError` where there is no other.
    """
    kept = latest(records)
    labels = kept.distinct("label")
    against = find_name("decoder", against, labels, "Give --against a label of the run.")
    if len(labels) == 1:
        raise UserError(f"--against {against}: the run has no other decoder; nothing to compare.")
    theirs = kept.of_value("label", against)
    rows, summary = [], summary_table(kept)
    for group, row in zip(row_groups(kept), summary.to_dict("records"), strict=True):
        if group.label != against:
            pairs = group.against(theirs).pairs_by_target
            rows.append(_row({str(name): value for name, value in row.items()}, pairs, against))
    table = pd.DataFrame(rows)
    table = table.astype({name: "Int64" for name in table if str(name).endswith("_n")})
    shown = []
    for target, of_target in rows_by_target(table):
        shown += [_speeds(target, of_target), _ratios(target, of_target), *_differences(target, of_target)]
    blocks = bool((summary["tokens_per_pass"] < summary["mat"]).any())
    return Comparison(f"Relative to {against}", table, shown, _notes(against, table, blocks))


def _row(row: Row, pairs: Sequence[Pairs], against: str) -> Row:
    speed = speedup(pairs), SPEEDUP.interval(pairs)
    compared = {"relative_speed": speed, **_compared(row, pairs)}
    notes = [f"{name}: {why}" for name, (value, interval) in compared.items() if (why := value.note or interval.note)]
    return {
        **{name: row[name] for name in ("target", "label", "lossy", "projected", "suite")}, "against": against,
        "launches": len(np.unique(np.concatenate([of_target.launches for of_target in pairs]))),
        "pairs": sum(map(len, pairs)), "speedup": row["speedup"], "mat": row["mat"],
        **{f"{name}{end}": part for name, (value, interval) in compared.items()
           for end, part in zip(_ENDS, (value.value, interval.low, interval.high, interval.questions), strict=True)},
        "notes": "; ".join(notes) or None,
    }  # fmt: skip


def _compared(row: Row, pairs: Sequence[Pairs]) -> dict[str, tuple[Measure, Interval]]:
    """The ratios, and the differences of task quality and of repetition, that a row has."""
    ratios = {name: statistic.compare(pairs, "ratio") for name, statistic in _RATIOS.items()}
    scored = [c.name for c in columns_of(row) if c.name.startswith(QUALITY) and not absent(row[c.name])]
    differences = {
        f"{name}{_DIFFERENCE}": quality_statistic(name.removeprefix(QUALITY)).compare(pairs, "difference")
        for name in scored
    }
    repeated = REPETITION.items() if row["lossy"] else ()
    differences |= {f"{name}{_DIFFERENCE}": statistic.compare(pairs, "difference") for name, statistic in repeated}
    return {**ratios, **differences}


def _notes(against: str, table: pd.DataFrame, blocks: bool) -> list[str]:
    """How to read the tables; `blocks`: a decoder's steps take several target passes."""
    several = MEAN_TARGET in set(table["target"])
    text = any(str(name).endswith(_DIFFERENCE) for name in table)
    return [
        f"Decode tokens/s over those of {against} on the same target and questions; All: every suite, with the 95 % "
        f"interval from n questions{within_launches(table['launches'])}.",
        f"MAT ×, PPL ×, Length ×: mean accepted tokens, perplexity and tokens per answer over those of {against} (PPL "
        "× below 1: likelier text, of as many tokens where Length × is 1"
        f"{'; MAT of mjgd is its block, which it does not accept but choose' if blocks else ''})"
        f"{f'; task quality and repetition: less those of {against}' if text else ''}. "
        "All suites together, with 95 % intervals likewise."
        f"{' Over several targets: the mean of their ratios or differences.' if several else ''}",
    ]


def _speeds(target: str, rows: Sequence[Row]) -> TextTable:
    suites = [s for s in dict.fromkeys(row["suite"] for row in rows) if s != OVERALL]
    over_ar = [] if all(row["against"] == BASELINE for row in rows) else [f"× {BASELINE}"]  # as "All" says
    headings = ["Decoder", *(suite_title(s, short=True) for s in suites), "All [95 %]", *over_ar, "MAT"]
    lines = []
    for of_label in by_decoder(rows).values():
        overall = of_label[OVERALL]
        by_suite = [number(of_label.get(suite, {}).get("relative_speed")) for suite in suites]
        total = _with_ends(overall, "relative_speed")
        speedups = [number(overall["speedup"]) for _ in over_ar]
        lines.append([row_title(overall), *by_suite, total, *speedups, number(overall["mat"])])
    return TextTable(headings, lines, target, spare=range(len(suites), 0, -1))


def _ratios(target: str, rows: Sequence[Row]) -> TextTable:
    """Accepted length, perplexity and answer length, all suites together."""
    lines = [[row_title(row), *(_with_ends(row, name) for name in _RATIOS)] for row in rows if row["suite"] == OVERALL]
    title = f"{target}: accepted length, perplexity, answer length"
    return TextTable(["Decoder", *_RATIO_HEADINGS], lines, title)


def _differences(target: str, rows: Sequence[Row]) -> list[TextTable]:
    """Task quality and repetition, all suites together, a few columns abreast."""
    overall = [row for row in rows if row["suite"] == OVERALL]
    known = [name for name in overall[0] if name.endswith(_DIFFERENCE) and not all(absent(r[name]) for r in overall)]
    columns = columns_of([name.removesuffix(_DIFFERENCE) for name in known])
    quality = [column for column in columns if column.name.startswith(QUALITY)]
    parts = [("task quality", quality[i : i + _METRICS_ABREAST]) for i in range(0, len(quality), _METRICS_ABREAST)]
    repeated = [column for column in columns if column not in quality]
    parts += [("repetition", repeated)] if repeated else []
    tables = []
    for what, shown in parts:
        cells = [(f"{column.name}{_DIFFERENCE}", column.digits) for column in shown]
        told = [row for row in overall if row["lossy"] or shown is not repeated]  # others repeat as AR does
        lines = [[row_title(row), *(_difference(row, *cell) for cell in cells)] for row in told]
        headings = ["Decoder", *(column.heading for column in shown)]
        tables.append(TextTable(headings, lines, f"{target}: {what}, difference"))
    return tables


def _with_ends(row: Row, name: str) -> str:
    return with_interval(*(row[f"{name}{end}"] for end in _ENDS))


def _difference(row: Row, name: str, digits: str) -> str:
    """A difference above its interval, whose ends may be negative, and its questions: narrow, to fit abreast."""
    value, low, high, questions = (row[f"{name}{end}"] for end in _ENDS)
    if absent(value):
        return NOTHING
    ends = "" if absent(low) else f"{low:z{digits}} to {high:z{digits}}\n"
    return f"{value:z{digits}}\n{ends}{stands_on(questions)}"
