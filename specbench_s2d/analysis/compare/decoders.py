"""Side by side, with intervals: two runs, the decoders of one run, or a run and the figures that a paper printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from specbench_s2d.analysis.metrics import stats
from specbench_s2d.analysis.metrics.bootstrap import RESAMPLES
from specbench_s2d.analysis.metrics.columns import Interval, Measure
from specbench_s2d.analysis.metrics.quality import difference, is_pooled, title
from specbench_s2d.analysis.metrics.quotients import LENGTH, MAT, PERPLEXITY
from specbench_s2d.analysis.metrics.stats import Pair
from specbench_s2d.analysis.tables import summary as tidy
from specbench_s2d.analysis.tables.naming import decoder_title, is_projected, suite_title
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, QUALITY
from specbench_s2d.analysis.tables.text import absent, number, quality_columns
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.runs.record import BASELINE, Record

_QUOTIENTS = {"mat_ratio": MAT, "perplexity_ratio": PERPLEXITY, "length_ratio": LENGTH}
_DIFFERENCE = "_difference"
_METRICS_ABREAST = 5  # as many as fit a terminal of 100 columns, and all of translation and summarization
_NAMED = 3  # how many of what has no partner are named, the rest being counted
Key = tuple[str, str, str]  # target, label, suite


@dataclass(frozen=True)
class Block:
    """One table to show: cells are text, a line break within a cell standing for one figure above another."""

    title: str
    headings: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Comparison:
    """`table`: every figure, tidy. `blocks`: what is shown of it. `notes`: how to read it, and what has no partner."""

    title: str
    table: pd.DataFrame
    blocks: list[Block]
    notes: list[str] = field(default_factory=list)


def with_interval(value: Any, low: Any, high: Any) -> str:
    """A figure with its interval, where it has one."""
    return number(value) if absent(low) else f"{value:.2f} [{low:.2f}–{high:.2f}]"


def compare_decoders(records: Sequence[Record], against: str, resamples: int = RESAMPLES) -> Comparison:
    """Every decoder beside the label `against`: speed, accepted length and text, per target, suite and mean over
    targets.

    Columns: target, label, lossy, projected, suite, against, pairs, speedup (over AR), mat, relative_speed, mat_ratio,
    perplexity_ratio, length_ratio, quality_*_difference, notes (why a figure is missing); ratios and differences with
    their 95 % intervals, on the cells that both finished. Raises `UnknownNameError` for a label that the run does not
    have, `UserError` where there is no other.
    """
    kept = tidy.latest(records)
    labels = list(dict.fromkeys(r.label for r in kept))
    if against not in labels:
        raise UnknownNameError.of("decoder", against, labels, "Give --against a label of the run.")
    if len(labels) == 1:
        raise UserError(f"--against {against}: the run has no other decoder; nothing to compare.")
    others = cells_by_key(r for r in kept if r.label == against)
    rows = []
    for row in tidy.tidy(kept, resamples).to_dict("records"):
        if row["label"] == against:
            continue
        mine = [r for r in kept if r.label == row["label"] and row["suite"] in (r.suite, OVERALL)]
        theirs = others[against, row["suite"]]
        groups = [stats.pair(of(mine, target), theirs) for target in targets_of(row["target"], kept)]
        speed = stats.mean_speedup(groups), stats.mean_speedup_interval(groups, resamples)
        figures = {"relative_speed": speed, **_beside(groups, row, resamples)}
        rows.append(
            {
                **{name: row[name] for name in ("target", "label", "lossy", "projected", "suite")}, "against": against,
                "pairs": sum(map(len, groups)), "speedup": row["speedup"], "mat": row["mat"],
                **{name: value for column, figure in figures.items() for name, value in _ends(column, *figure).items()},
                "notes": "; ".join(f"{column}: {why}" for column, figure in figures.items() if (why := _why(*figure)))
                or None,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    notes = [
        f"Decode tokens/s over those of {against} on the same target and questions; All: every suite, with the 95 % "
        "interval (paired bootstrap over questions, drawn for all targets alike).",
        f"MAT ×, PPL ×, Length ×: mean accepted tokens, perplexity and tokens per answer over those of {against} (PPL "
        "× below 1: likelier text, of as many tokens where Length × is 1; MAT of mjgd is its block, which it does not "
        f"accept but choose); task quality: the decoder's less that of {against}. All suites together, with 95 % "
        "intervals likewise. Over several targets: the mean of their ratios or differences.",
    ]
    blocks = []
    for target, part in table.groupby("target", sort=False):
        blocks += [_relative_block(str(target), part), *_text_blocks(str(target), part)]
    return Comparison(f"Relative to {against}", table, blocks, notes)


def _beside(
    groups: Sequence[Sequence[Pair]], row: Mapping[Any, Any], resamples: int
) -> dict[str, tuple[Measure, Interval]]:
    """The ratios of accepted length and perplexity, and the differences of task quality, of one row."""
    found = {column: quotient.compare(groups, "ratio", resamples) for column, quotient in _QUOTIENTS.items()}
    for column in quality_columns(row):
        metric = column.removeprefix(QUALITY)
        if not absent(row[column]):
            found[f"{column}{_DIFFERENCE}"] = difference(groups, metric, resamples)
    return found


def _why(value: Measure, interval: Interval) -> str | None:
    """Why a figure or its interval is missing; the reason for both is said once."""
    return value.note or interval.note


def _ends(column: str, value: Measure, interval: Interval) -> dict[str, Any]:
    return {column: value.value, f"{column}_low": interval.low, f"{column}_high": interval.high}


def _text_blocks(target: str, rows: pd.DataFrame) -> list[Block]:
    """Accepted length and perplexity, then task quality, all suites together; a line per decoder."""
    overall = rows[rows["suite"] == OVERALL]
    lines = overall.to_dict("records")
    names = [decoder_title(row["label"], row["lossy"], row["projected"]) for row in lines]
    ratios = [
        [with_interval(*(row[f"{column}{end}"] for end in ("", "_low", "_high"))) for column in _QUOTIENTS]
        for row in lines
    ]
    headings = ["Decoder", "MAT × [95 %]", "PPL × [95 %]", "Length × [95 %]"]
    blocks = [Block(f"{target}: accepted length, perplexity, answer length", headings, _lines(names, ratios))]
    scored = [c for c in overall.columns if c.endswith(_DIFFERENCE) and overall[c].notna().any()]
    for start in range(0, len(scored), _METRICS_ABREAST):
        metrics = [c.removeprefix(QUALITY).removesuffix(_DIFFERENCE) for c in scored[start : start + _METRICS_ABREAST]]
        differences = [[_difference(row, metric) for metric in metrics] for row in lines]
        headings = ["Decoder", *map(title, metrics)]
        blocks.append(Block(f"{target}: task quality, difference", headings, _lines(names, differences)))
    return blocks


def _lines(names: Sequence[str], figures: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[name, *cells] for name, cells in zip(names, figures, strict=True)]


def _difference(row: Mapping[Any, Any], metric: str) -> str:
    """A difference above its interval, whose ends may be negative."""
    value, low, high = (row[f"{QUALITY}{metric}{_DIFFERENCE}{end}"] for end in ("", "_low", "_high"))
    form = "z.1f" if is_pooled(metric) else "z.2f"
    return number(value, form) if absent(low) else f"{value:{form}}\n{low:{form}} to {high:{form}}"


def _relative_block(target: str, rows: pd.DataFrame) -> Block:
    suites = [s for s in dict.fromkeys(rows["suite"]) if s != OVERALL]
    headings = ["Decoder", *(suite_title(s, short=True) for s in suites), "All [95 %]", f"× {BASELINE}", "MAT"]
    lines = []
    for _, part in rows.groupby("label", sort=False):
        by_suite: dict[str, Mapping[Any, Any]] = {str(row["suite"]): row for row in part.to_dict("records")}
        overall = by_suite[OVERALL]
        figures = [number(by_suite[s]["relative_speed"]) if s in by_suite else number(None) for s in suites]
        total = with_interval(*(overall[f"relative_speed{end}"] for end in ("", "_low", "_high")))
        title = decoder_title(overall["label"], overall["lossy"], overall["projected"])
        lines.append([title, *figures, total, number(overall["speedup"]), number(overall["mat"])])
    return Block(target, headings, lines)


def compare_runs(
    ours: Sequence[Record], theirs: Sequence[Record], names: tuple[str, str], resamples: int = RESAMPLES
) -> Comparison:
    """Two runs, target by target, label by label, suite by suite: speed-ups, mean accepted tokens, and the ratio of
    the speed-ups over the turns that both runs asked.

    Columns: target, label, lossy, projected, suite, speedup_a, speedup_b, ratio with its 95 % interval, questions,
    mat_a, mat_b.
    Raises `UserError` for a run without AR, and for runs that share no target and label.
    """
    a, b = tidy.latest(ours), tidy.latest(theirs)
    for name, records in zip(names, (a, b), strict=True):
        require_baseline(name, records)
    keyed = [{(row["target"], row["label"], row["suite"]): row for row in tidy.tidy(r, resamples).to_dict("records")}
             for r in (a, b)]  # fmt: skip
    shared = [key for key in keyed[0] if key in keyed[1] and key[1] != BASELINE]
    if not shared:
        raise UserError(
            f"nothing in common: {names[0]} has {_grid(a)}; {names[1]} has {_grid(b)}; compare runs that share a "
            "target and a decoder."
        )
    both = _turns(a) & _turns(b)
    rows = [_run_row(key, keyed, (a, b), both, resamples) for key in shared]
    table = pd.DataFrame(rows)
    blocks = [_runs_block(str(target), part, names) for target, part in table.groupby("target", sort=False)]
    notes = [
        f"A: {names[0]}; B: {names[1]}. A / B: the ratio of the two speed-ups over {BASELINE} on the turns that both "
        "asked, with its 95 % interval (bootstrap over questions, the same draw for both).",
        *_unpaired(names, (a, b)),
    ]
    return Comparison(f"{names[0]} beside {names[1]}", table, blocks, notes)


def _run_row(
    key: Key, keyed: Sequence[Mapping[Key, Any]], runs: Sequence[Sequence[Record]], both: set[Any], resamples: int
) -> dict[str, Any]:
    target, label, suite = key
    first, second = (rows[key] for rows in keyed)
    ours, theirs = (_common_pairs(records, key, both) for records in runs)
    value, interval = stats.speedup_ratio(ours, theirs), stats.speedup_ratio_interval(ours, theirs, resamples)
    return {
        "target": target, "label": label, "lossy": first["lossy"],
        "projected": ", ".join(dict.fromkeys(filter(is_projected, (first["projected"], second["projected"])))) or None,
        "suite": suite,
        "speedup_a": first["speedup"], "speedup_b": second["speedup"],
        "ratio": value.value, "ratio_low": interval.low, "ratio_high": interval.high,
        "questions": len({stats.question_of(p.ours) for pairs in ours for p in pairs}),
        "mat_a": first["mat"], "mat_b": second["mat"],
    }  # fmt: skip


def _common_pairs(records: Sequence[Record], key: Key, both: set[Any]) -> list[list[Pair]]:
    """The row's cells beside AR's, by target, of the turns in `both`."""
    target, label, suite = key
    mine = [r for r in records if r.label == label and suite in (r.suite, OVERALL)]
    baseline = [r for r in records if r.label == BASELINE]
    return [stats.pair([r for r in of(mine, t) if turn_of(r) in both], baseline) for t in targets_of(target, records)]


def _runs_block(target: str, rows: pd.DataFrame, names: tuple[str, str]) -> Block:
    headings = ["Decoder", "Suite", "A", "B", "A / B [95 %]", "MAT A", "MAT B"]
    lines, last = [], None
    for row in rows.to_dict("records"):
        title = decoder_title(row["label"], row["lossy"], row["projected"])
        ratio = with_interval(row["ratio"], row["ratio_low"], row["ratio_high"])
        figures = [
            number(row["speedup_a"]),
            number(row["speedup_b"]),
            ratio,
            number(row["mat_a"]),
            number(row["mat_b"]),
        ]
        lines.append([title if title != last else "", suite_title(row["suite"]), *figures])
        last = title
    return Block(target, headings, lines)


def _unpaired(names: tuple[str, str], runs: tuple[Sequence[Record], Sequence[Record]]) -> list[str]:
    """What only one of the runs has: targets, decoders on a shared target, turns; the first few by name."""
    notes = []
    for name, mine, other in ((names[0], runs[0], runs[1]), (names[1], runs[1], runs[0])):
        targets = {r.target for r in other}
        labels = {(r.target, r.label) for r in other}
        turns = _turns(other)
        lone = {
            "targets": [r.target for r in mine if r.target not in targets],
            "decoders": [r.label for r in mine if r.target in targets and (r.target, r.label) not in labels],
            "turns": [_turn_name(turn) for turn in map(turn_of, mine) if turn not in turns],
        }
        notes += [f"Only {name} has the {what} {_some(which)}." for what, which in lone.items() if which]
    return notes


def _some(names: Iterable[str]) -> str:
    known = list(dict.fromkeys(names))
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more


def turn_of(record: Record) -> tuple[str, int | str, int]:
    """Which turn of which question a record answers, whoever did."""
    return record.suite, record.question_id, record.turn


def _turn_name(turn: tuple[str, int | str, int]) -> str:
    return f"{turn[0]} {turn[1]}/{turn[2]}"


def _turns(records: Iterable[Record]) -> set[tuple[str, int | str, int]]:
    return {turn_of(r) for r in records if r.status == "ok"}


def of(records: Iterable[Record], target: str) -> list[Record]:
    """The records of one target."""
    return [r for r in records if r.target == target]


def targets_of(target: str, records: Iterable[Record]) -> list[str]:
    """The targets behind a row: itself, or all of the run's for `MEAN_TARGET`."""
    return list(dict.fromkeys(r.target for r in records)) if target == MEAN_TARGET else [target]


def cells_by_key(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """Records by label and suite, `overall` included."""
    found: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        for suite in (r.suite, OVERALL):
            found.setdefault((r.label, suite), []).append(r)
    return found


def require_baseline(name: str, records: Iterable[Record]) -> None:
    """Raise `UserError` where a run has no AR to be faster than."""
    if not any(r.label == BASELINE and r.status == "ok" for r in records):
        raise UserError(
            f"{name}: no finished {BASELINE!r} in this run, so it has no speed-ups; run it with {BASELINE}."
        )


def _grid(records: Iterable[Record]) -> str:
    pairs = list(dict.fromkeys((r.target, r.label) for r in records))
    targets, labels = ({p[i] for p in pairs} for i in range(2))
    return f"{', '.join(sorted(targets))} with {', '.join(sorted(labels))}"
